//! The table as flags.

use insta::assert_snapshot;

use super::*;

#[test]
#[expect(clippy::too_many_lines, reason = "they are the lines of the help")]
fn the_flags_are_sound_and_their_help_teaches() {
    let mut command = Flags::<Everything>::augment_args(Command::new("serve").term_width(110));
    command.clone().debug_assert();
    assert_snapshot!(command.render_help(), @r#"
    Usage: serve [OPTIONS]

    Options:
          --config <FILE>  TOML file with settings, `key = value` [env: NAS_CRON_CONFIG]
      -h, --help           Print help

    Database:
          --database-url <URL>            Postgres database that holds the truth. Several hosts may be named
                                          (`host1:5432,host2:5432`): the writable one is used. Poolers must keep
                                          sessions. Other users of the machine can see it in the process list.
                                          [env: NAS_CRON_DATABASE_URL] [required]
          --database-url-file <FILE>      The same, read from this file [env: NAS_CRON_DATABASE_URL_FILE]
          --database-max-connections <N>  Maximum number of connections of this replica: three tenths of them for
                                          fires alone, the rest for requests. One more receives notifications.
                                          [env: NAS_CRON_DATABASE_MAX_CONNECTIONS] [default: 20]
          --migrate[=<BOOL>]              Apply missing schema migrations before serving: for small set-ups.
                                          Elsewhere run `nas-cron migrate` before a roll-out. [env:
                                          NAS_CRON_MIGRATE] [default: false]

    Listening:
          --listen <IP:PORT>                    Where agents, the portal's backend and hosted schedulers reach us.
                                                TLS ends in front of it. [env: NAS_CRON_LISTEN] [default:
                                                0.0.0.0:8080]
          --metrics-listen <IP:PORT>            Where Prometheus scrapes /metrics. Not for the public. [env:
                                                NAS_CRON_METRICS_LISTEN] [default: 0.0.0.0:9090]
          --public-url <URL>                    Our own base URL as seen from outside: for relay and for the JWKS.
                                                On the portal's host by default, where we are routed by path.
                                                [env: NAS_CRON_PUBLIC_URL] [default: {portal_url}]
          --connection-idle-timeout <DURATION>  Idle timeout of callers' connections. Keep it above the load
                                                balancer's own, usually 60 s, so that no request meets a closing
                                                connection. [env: NAS_CRON_CONNECTION_IDLE_TIMEOUT] [default: 75s]

    Portal:
          --portal-url <URL>
              The portal's base URL: issuer of the agents' access tokens and `iss` of our fire tokens. Kept byte
              for byte: agents compare it as a string. [env: NAS_CRON_PORTAL_URL] [required]
          --portal-jwks-url <URL>
              Where the keys of the portal's tokens are fetched. [env: NAS_CRON_PORTAL_JWKS_URL] [default:
              {portal_url}/.well-known/jwks.json]
          --portal-jwks-file <FILE>
              The keys of the portal's tokens, pinned: a JWKS or a PEM file. Instead of portal_jwks_url. [env:
              NAS_CRON_PORTAL_JWKS_FILE] [default: fetched by URL]
          --portal-audiences <NAME,…>
              Audiences (`aud`) that access tokens may have. [env: NAS_CRON_PORTAL_AUDIENCES] [default: not
              judged]
          --own-portal[=<BOOL>]
              This service is its agents' portal: it issues their access tokens at {portal_url}/api/oauth/token,
              signed with its own keys, and takes no others. For self-hosters; see docs/self-hosting.md. [env:
              NAS_CRON_OWN_PORTAL] [default: false]
          --access-token-ttl <DURATION>
              How long an access token lives that own_portal issues. Agents refresh theirs two minutes before its
              end. [env: NAS_CRON_ACCESS_TOKEN_TTL] [default: 1h]
          --directory <NAME>
              Where it is known which agent instances there are: in our own table, where they are registered, or
              at the portal, which is asked at lookup_url. See docs/portals.md. [env: NAS_CRON_DIRECTORY]
              [default: table]
          --lookup-url <URL>
              Where the portal says which instance a client or a session is. [env: NAS_CRON_LOOKUP_URL] [default:
              needed with directory = lookup]
          --lookup-token <TEXT>
              The bearer token that opens lookup_url. Other users of the machine can see it in the process list.
              [env: NAS_CRON_LOOKUP_TOKEN] [default: needed with directory = lookup]
          --lookup-token-file <FILE>
              The same, read from this file [env: NAS_CRON_LOOKUP_TOKEN_FILE]
          --lookup-ttl <DURATION>
              How long an answer of lookup_url is taken as it is; then it is asked again. [env:
              NAS_CRON_LOOKUP_TTL] [default: 60s]
          --lookup-negative-ttl <DURATION>
              How long an instance that lookup_url does not know is not asked for again. [env:
              NAS_CRON_LOOKUP_NEGATIVE_TTL] [default: 10s]
          --lookup-stale <DURATION>
              How old an answer of lookup_url may be that is used while the portal is away. [env:
              NAS_CRON_LOOKUP_STALE] [default: 7d]
          --introspection-url <URL>
              Where the portal says what an access token that is no JWT stands for (RFC 7662). [env:
              NAS_CRON_INTROSPECTION_URL] [default: opaque tokens are refused]
          --introspection-client-id <TEXT>
              The client as which we ask introspection_url, by HTTP Basic. [env: NAS_CRON_INTROSPECTION_CLIENT_ID]
              [default: needed beside introspection_url]
          --introspection-client-secret <TEXT>
              That client's secret. Other users of the machine can see it in the process list. [env:
              NAS_CRON_INTROSPECTION_CLIENT_SECRET] [default: needed beside introspection_url]
          --introspection-client-secret-file <FILE>
              The same, read from this file [env: NAS_CRON_INTROSPECTION_CLIENT_SECRET_FILE]
          --introspection-ttl <DURATION>
              How long an answer about an active token is taken as it is, and so how long a revoked one may still
              open something. [env: NAS_CRON_INTROSPECTION_TTL] [default: 60s]
          --issuers-file <FILE>
              Further issuers of access tokens, each with its own rules: a TOML file with a table [[issuer]] for
              each. See docs/portals.md. [env: NAS_CRON_ISSUERS_FILE] [default: the portal alone]

    Keys:
          --signing-alg <NAME>              The algorithm of keys that are made from now on. ES256 signs about 28
                                            times faster. [env: NAS_CRON_SIGNING_ALG] [default: ES256]
          --key-rotation-period <DURATION>  How long one key signs before the next one takes over. [env:
                                            NAS_CRON_KEY_ROTATION_PERIOD] [default: 90d]
          --key-encryption-key <BASE64>     Encrypts the private signing keys at rest: 32 bytes in base64, the
                                            same on every replica. Make one with `openssl rand -base64 32`. Other
                                            users of the machine can see it in the process list. [env:
                                            NAS_CRON_KEY_ENCRYPTION_KEY] [default: none: `serve` refuses to start
                                            while signing keys live in the database]
          --key-encryption-key-file <FILE>  The same, read from this file [env: NAS_CRON_KEY_ENCRYPTION_KEY_FILE]
          --agents-jwks-url <URL>           Where agents fetch the keys of fire tokens. An imported key is
                                            activated only once it is seen there. [env: NAS_CRON_AGENTS_JWKS_URL]
                                            [default: {public_url}/api/agent-cron/jwks.json]
          --fire-token-ttl <DURATION>       How long a fire token is good for, from its minting. [env:
                                            NAS_CRON_FIRE_TOKEN_TTL] [default: 90s]

    Agent identity:
          --agent-identity[=<BOOL>]            Whether agents may register an Ed25519 key and call with
                                               `Authorization: AgentAssertion` beside the portal's tokens. See
                                               docs/agent-identity.md. [env: NAS_CRON_AGENT_IDENTITY] [default:
                                               false]
          --agent-task-lifetime <DURATION>     How long a task that an agent has registered lives without being
                                               used; every use renews it. [env: NAS_CRON_AGENT_TASK_LIFETIME]
                                               [default: 24h]
          --agent-task-ids-encrypted[=<BOOL>]  Answer a task's name as `encrypted_task_id`: a sealed box that only
                                               the agent's own key opens. [env: NAS_CRON_AGENT_TASK_IDS_ENCRYPTED]
                                               [default: false]

    Administration:
          --admin-token-sha256 <HEX,…>  SHA-256 of each bearer token that opens the admin API, in hex: `printf %s
                                        "$TOKEN" | sha256sum`. [env: NAS_CRON_ADMIN_TOKEN_SHA256] [default: no
                                        admin API]

    Fires:
          --callback-allow <CIDR,…>     Networks whose agents are called although they are not public, and also
                                        over plain http. A bare address is a network of one. [env:
                                        NAS_CRON_CALLBACK_ALLOW] [default: public addresses over https only]
          --fire-timeout <DURATION>     An attempt's one deadline, over connecting, headers and body. An agent may
                                        have to boot in it. [env: NAS_CRON_FIRE_TIMEOUT] [default: 30s]
          --connect-timeout <DURATION>  How long connecting to an agent may take, TLS included. [env:
                                        NAS_CRON_CONNECT_TIMEOUT] [default: 10s]
          --in-flight-max <N>           How many attempts this replica has under way at once. [env:
                                        NAS_CRON_IN_FLIGHT_MAX] [default: 1024]
          --in-flight-per-instance <N>  How many of them may go to one agent instance, so that a slow one holds up
                                        nobody. [env: NAS_CRON_IN_FLIGHT_PER_INSTANCE] [default: 16]
          --fire-floor <DURATION>       The least time between two fires of one job; a fire that comes sooner is
                                        delayed. [env: NAS_CRON_FIRE_FLOOR] [default: 1s]

    Retries and repeats:
          --retry-definite-base <DURATION>    The first wait after a definite refusal (connection refused, a
                                              status); doubles with jitter. [env: NAS_CRON_RETRY_DEFINITE_BASE]
                                              [default: 1s]
          --retry-ambiguous-floor <DURATION>  The least wait after an ambiguous end (timeout, reset, lost lease):
                                              time for the agent's re-arm to come first. [env:
                                              NAS_CRON_RETRY_AMBIGUOUS_FLOOR] [default: 10s]
          --retry-cap <DURATION>              No wait between two attempts is longer, an agent's Retry-After
                                              included. [env: NAS_CRON_RETRY_CAP] [default: 1h]
          --retry-give-up-after <DURATION>    How long a fire is tried before it becomes a dead letter. [env:
                                              NAS_CRON_RETRY_GIVE_UP_AFTER] [default: 72h]
          --second-fire-delay <DURATION>      How long after its delivery a key that is provisioned again is fired
                                              once more. [env: NAS_CRON_SECOND_FIRE_DELAY] [default: 60s]
          --second-fire-interval <DURATION>   The least time between two such second fires of one key. [env:
                                              NAS_CRON_SECOND_FIRE_INTERVAL] [default: 300s]
          --second-fires-max <N>              How many second fires a key gets before it is shown as stuck. [env:
                                              NAS_CRON_SECOND_FIRES_MAX] [default: 3]

    Scheduler and leases:
          --lease-horizon <DURATION>  How far ahead a replica leases what comes due. [env: NAS_CRON_LEASE_HORIZON]
                                      [default: 2s]
          --lease-grace <DURATION>    How long after its instant an unstarted one-shot stays leased: what a killed
                                      replica had claimed is at most this much late, plus the next claim. [env:
                                      NAS_CRON_LEASE_GRACE] [default: 3s]
          --lease-margin <DURATION>   What the lease of a started attempt has beyond the attempt's deadline: time
                                      to record how it ended. [env: NAS_CRON_LEASE_MARGIN] [default: 10s]
          --lease-capacity <N>        How many one-shots a replica leases at once. [env: NAS_CRON_LEASE_CAPACITY]
                                      [default: 8192]

    Scheduler backends:
          --backend <NAME>
              Who wakes us first at a fire's instant, when the service starts for the first time. From then on the
              database says it: `nas-cron backend switch`. [env: NAS_CRON_BACKEND] [default: postgres]
          --relay-url <URL>
              Where a hosted scheduler calls us, as it sees us: what its signatures are bound to. [env:
              NAS_CRON_RELAY_URL] [default: {public_url}/api/agent-cron/relay]
          --watchdog-grace <DURATION>
              How long after its instant our own loop leaves a fire to the hosted scheduler that is to wake us.
              [env: NAS_CRON_WATCHDOG_GRACE] [default: 5s]
          --engine-timeout <DURATION>
              How long one call to a hosted scheduler may take. [env: NAS_CRON_ENGINE_TIMEOUT] [default: 10s]
          --qstash-token <TEXT>
              The token that publishes to QStash. Its presence configures the backends qstash and qstash_direct.
              Other users of the machine can see it in the process list. [env: NAS_CRON_QSTASH_TOKEN] [default:
              QStash is not configured]
          --qstash-token-file <FILE>
              The same, read from this file [env: NAS_CRON_QSTASH_TOKEN_FILE]
          --qstash-current-signing-key <TEXT>
              The key that QStash signs its calls with. Other users of the machine can see it in the process list.
              [env: NAS_CRON_QSTASH_CURRENT_SIGNING_KEY] [default: needed beside qstash_token]
          --qstash-current-signing-key-file <FILE>
              The same, read from this file [env: NAS_CRON_QSTASH_CURRENT_SIGNING_KEY_FILE]
          --qstash-next-signing-key <TEXT>
              The key that QStash will sign with after a rotation: accepted too, so that rotating needs no
              downtime. Other users of the machine can see it in the process list. [env:
              NAS_CRON_QSTASH_NEXT_SIGNING_KEY] [default: none]
          --qstash-next-signing-key-file <FILE>
              The same, read from this file [env: NAS_CRON_QSTASH_NEXT_SIGNING_KEY_FILE]
          --qstash-url <URL>
              QStash's API, by region. [env: NAS_CRON_QSTASH_URL] [default: https://qstash.upstash.io]
          --qstash-retries <N>
              How often QStash calls again what was not accepted, by its plan. Retries towards the agent are ours
              anyway. [env: NAS_CRON_QSTASH_RETRIES] [default: 3]
          --qstash-furthest <DURATION>
              How far ahead QStash takes a message, by its plan; what is later is handed over when it is near
              enough. [env: NAS_CRON_QSTASH_FURTHEST] [default: 7d]
          --qstash-direct-grace <DURATION>
              With qstash_direct: how long after its instant a fire of which QStash's log says nothing is made by
              our own loop. [env: NAS_CRON_QSTASH_DIRECT_GRACE] [default: 15m]
          --nats-urls <NAME,…>
              The servers of a NATS JetStream, 2.12 or later. Their presence configures the backend nats. [env:
              NAS_CRON_NATS_URLS] [default: NATS is not configured]
          --nats-credentials-file <FILE>
              The account's credentials: a .creds file. [env: NAS_CRON_NATS_CREDENTIALS_FILE] [default: no
              authentication]
          --nats-ca-file <FILE>
              Authorities that the servers' certificates may come from, as PEM. [env: NAS_CRON_NATS_CA_FILE]
              [default: the system's authorities]
          --nats-certificate-file <FILE>
              Our own certificate, where the servers ask for one, as PEM; with nats_key_file. [env:
              NAS_CRON_NATS_CERTIFICATE_FILE] [default: none]
          --nats-key-file <FILE>
              Our certificate's private key, as PEM. [env: NAS_CRON_NATS_KEY_FILE] [default: none]
          --nats-stream <TEXT>
              The stream that holds the wake-ups; made where there is none. [env: NAS_CRON_NATS_STREAM] [default:
              NAS_CRON]
          --nats-subject <TEXT>
              What the stream's subjects begin with, and the name of its consumer. Another one, and another
              stream, for every service on the same account. [env: NAS_CRON_NATS_SUBJECT] [default: nas-cron]
          --nats-replicas <N>
              How many servers keep each wake-up; 3 in a cluster. [env: NAS_CRON_NATS_REPLICAS] [default: 1]

    History:
          --history-retention <DURATION>  How long the rows of fires and attempts are kept. [env:
                                          NAS_CRON_HISTORY_RETENTION] [default: 30d]

    Stopping:
          --drain-delay <DURATION>       How long agents are still served after the first SIGTERM, while /readyz
                                         answers 503 and no fire is claimed. [env: NAS_CRON_DRAIN_DELAY] [default:
                                         15s]
          --shutdown-timeout <DURATION>  How long attempts under way are then waited for. Give the orchestrator
                                         more than drain_delay and this together. [env: NAS_CRON_SHUTDOWN_TIMEOUT]
                                         [default: 45s]

    Logs:
          --log-format <NAME>        How log lines look on stderr; auto is pretty on a terminal and JSON
                                     elsewhere. [env: NAS_CRON_LOG_FORMAT] [default: auto]
          --log-filter <DIRECTIVES>  Which log lines are written, such as `info,nas_cron::fire=debug`. [env:
                                     NAS_CRON_LOG_FILTER] [default: info]
    "#);
}
