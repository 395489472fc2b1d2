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
          --config <FILE>  Configuration file (TOML, `key = value`) [env: NAS_CRON_CONFIG]
      -h, --help           Print help

    Database:
          --database-url <URL>            URL of the Postgres database. It may list several hosts
                                          (`host1:5432,host2:5432`); the writable one is used. Without a user it
                                          means `PGUSER`, else the operating system's user. A connection pooler
                                          must run in session mode. Visible to other users of the machine in the
                                          process list; prefer the variable or the file. [env:
                                          NAS_CRON_DATABASE_URL] [required]
          --database-url-file <FILE>      File that contains database_url [env: NAS_CRON_DATABASE_URL_FILE]
          --database-max-connections <N>  Maximum database connections per replica. Three tenths are reserved for
                                          fires, the rest serve requests. Two additional connections receive
                                          notifications and keep the replica registered. [env:
                                          NAS_CRON_DATABASE_MAX_CONNECTIONS] [default: 20]
          --migrate[=<BOOL>]              Apply missing schema migrations at start. Convenient for a single
                                          replica; otherwise run `nas-cron migrate` before each rollout. [env:
                                          NAS_CRON_MIGRATE] [default: false]

    Listening:
          --listen <IP:PORT>                    Listen address for agents, the portal backend and external
                                                scheduler backends. TLS is terminated in front of it. [env:
                                                NAS_CRON_LISTEN] [default: 0.0.0.0:8080]
          --metrics-listen <IP:PORT>            Listen address for Prometheus (/metrics). Do not expose it
                                                publicly. [env: NAS_CRON_METRICS_LISTEN] [default: 0.0.0.0:9090]
          --admin-listen <IP:PORT>              Listen address of the admin API and the operators' page. If it is
                                                set, both are served only there; otherwise the admin API is on
                                                listen, and there is no operators' page. [env:
                                                NAS_CRON_ADMIN_LISTEN] [default: on listen]
          --public-url <URL>                    Base URL of this service as seen from outside, used for the relay
                                                and the JWKS. The default assumes that the portal's host routes
                                                nas-cron's paths to it. [env: NAS_CRON_PUBLIC_URL] [default:
                                                {portal_url}]
          --connection-idle-timeout <DURATION>  Idle timeout of inbound connections. Keep it longer than the load
                                                balancer's idle timeout, usually 60 s, so that no request is sent
                                                on a closing connection. [env: NAS_CRON_CONNECTION_IDLE_TIMEOUT]
                                                [default: 75s]

    Portal:
          --portal-url <URL>
              Base URL of the portal: issuer of the agents' access tokens and `iss` of fire tokens. Kept byte for
              byte, because agents compare it as a string. [env: NAS_CRON_PORTAL_URL] [required]
          --portal-jwks-url <URL>
              URL of the JWKS that verifies the portal's access tokens. [env: NAS_CRON_PORTAL_JWKS_URL] [default:
              {portal_url}/.well-known/jwks.json]
          --portal-jwks-file <FILE>
              File with the portal's public keys (JWKS or PEM), instead of portal_jwks_url. [env:
              NAS_CRON_PORTAL_JWKS_FILE] [default: keys are fetched from portal_jwks_url]
          --portal-audiences <NAME,…>
              Accepted audiences (`aud`) of access tokens. `agent:*` accepts the client `agent:<id>` of every
              agent. [env: NAS_CRON_PORTAL_AUDIENCES] [default: any audience]
          --own-portal[=<BOOL>]
              Enable the built-in portal: nas-cron issues its agents' access tokens at
              {portal_url}/api/oauth/token, signed with its own keys, and accepts no other portal's. For
              self-hosters; see docs/self-hosting.md. [env: NAS_CRON_OWN_PORTAL] [default: false]
          --access-token-ttl <DURATION>
              Lifetime of access tokens issued by the built-in portal. Agents refresh them two minutes before they
              expire. [env: NAS_CRON_ACCESS_TOKEN_TTL] [default: 1h]
          --directory <NAME>
              Source of agent instances: `table` for instances registered with nas-cron, or `lookup` for the
              portal's API at lookup_url. See docs/portals.md. [env: NAS_CRON_DIRECTORY] [default: table]
          --lookup-url <URL>
              URL of the portal's lookup API, which maps a client or session to an agent instance. [env:
              NAS_CRON_LOOKUP_URL] [default: required with directory = lookup]
          --lookup-token <TEXT>
              Bearer token for lookup_url. Visible to other users of the machine in the process list; prefer the
              variable or the file. [env: NAS_CRON_LOOKUP_TOKEN] [default: required with directory = lookup]
          --lookup-token-file <FILE>
              File that contains lookup_token [env: NAS_CRON_LOOKUP_TOKEN_FILE]
          --lookup-ttl <DURATION>
              Cache TTL for lookup responses. [env: NAS_CRON_LOOKUP_TTL] [default: 60s]
          --lookup-negative-ttl <DURATION>
              Cache TTL for instances that the lookup does not know. [env: NAS_CRON_LOOKUP_NEGATIVE_TTL] [default:
              10s]
          --lookup-stale <DURATION>
              Maximum age of a cached lookup response that may be used while the portal is unavailable. [env:
              NAS_CRON_LOOKUP_STALE] [default: 7d]
          --introspection-url <URL>
              URL of the portal's token introspection endpoint (RFC 7662), for access tokens that are not JWTs.
              [env: NAS_CRON_INTROSPECTION_URL] [default: opaque tokens are refused]
          --introspection-client-id <TEXT>
              Client id for introspection_url (HTTP Basic authentication). [env: NAS_CRON_INTROSPECTION_CLIENT_ID]
              [default: required with introspection_url]
          --introspection-client-secret <TEXT>
              Client secret for introspection_url. Visible to other users of the machine in the process list;
              prefer the variable or the file. [env: NAS_CRON_INTROSPECTION_CLIENT_SECRET] [default: required with
              introspection_url]
          --introspection-client-secret-file <FILE>
              File that contains introspection_client_secret [env: NAS_CRON_INTROSPECTION_CLIENT_SECRET_FILE]
          --introspection-ttl <DURATION>
              Cache TTL for active tokens, per replica. A revoked token may be accepted for this long. [env:
              NAS_CRON_INTROSPECTION_TTL] [default: 60s]
          --issuers-file <FILE>
              TOML file with further issuers of access tokens, one [[issuer]] table each. See docs/portals.md.
              [env: NAS_CRON_ISSUERS_FILE] [default: only the portal]

    Keys:
          --signing-alg <NAME>
              Algorithm of newly generated signing keys. ES256 signs about 28 times faster than RS256. [env:
              NAS_CRON_SIGNING_ALG] [default: ES256]
          --key-rotation-period <DURATION>
              Time after which the next signing key replaces the current one. [env: NAS_CRON_KEY_ROTATION_PERIOD]
              [default: 90d]
          --key-encryption-key <BASE64>
              Key that encrypts the private signing keys and the secrets of webhooks at rest: 32 bytes in base64,
              the same on every replica. Generate one with `openssl rand -base64 32`. Visible to other users of
              the machine in the process list; prefer the variable or the file. [env: NAS_CRON_KEY_ENCRYPTION_KEY]
              [default: none; `serve` refuses to start if signing keys are stored in the database]
          --key-encryption-key-file <FILE>
              File that contains key_encryption_key [env: NAS_CRON_KEY_ENCRYPTION_KEY_FILE]
          --key-encryption-key-fallbacks <BASE64,…>
              Further key-encryption keys, which only decrypt: the previous one until `nas-cron keys rewrap` is
              done, or the next one before the change. In a file: one on each line. Visible to other users of the
              machine in the process list; prefer the variable or the file. [env:
              NAS_CRON_KEY_ENCRYPTION_KEY_FALLBACKS] [default: none]
          --key-encryption-key-fallbacks-file <FILE>
              File that contains key_encryption_key_fallbacks [env: NAS_CRON_KEY_ENCRYPTION_KEY_FALLBACKS_FILE]
          --agents-jwks-url <URL>
              URL from which agents fetch the public keys of fire tokens. An imported key is activated only after
              it is visible there. [env: NAS_CRON_AGENTS_JWKS_URL] [default:
              {public_url}/api/agent-cron/jwks.json]
          --fire-token-ttl <DURATION>
              Lifetime of a fire token. [env: NAS_CRON_FIRE_TOKEN_TTL] [default: 90s]

    Agent identity:
          --agent-identity[=<BOOL>]            Allow agents to register an Ed25519 key and to call with
                                               `Authorization: AgentAssertion` as an alternative to the portal's
                                               tokens. See docs/agent-identity.md. [env: NAS_CRON_AGENT_IDENTITY]
                                               [default: false]
          --agent-task-lifetime <DURATION>     Lifetime of a registered agent task since its last use. Each use
                                               renews it. [env: NAS_CRON_AGENT_TASK_LIFETIME] [default: 24h]
          --agent-task-ids-encrypted[=<BOOL>]  Return a task's id as `encrypted_task_id`, a sealed box that only
                                               the agent's own key can open. [env:
                                               NAS_CRON_AGENT_TASK_IDS_ENCRYPTED] [default: false]

    Administration:
          --admin-token-sha256 <HEX,…>  SHA-256 hashes (hex) of bearer tokens of the admin API, with all rights,
                                        beside those of `nas-cron admin-tokens`. To compute one: `printf %s
                                        "$TOKEN" | sha256sum`. [env: NAS_CRON_ADMIN_TOKEN_SHA256] [default: none]
          --audit-retention <DURATION>  Retention period of the audit log, and of revoked and expired admin
                                        tokens. [env: NAS_CRON_AUDIT_RETENTION] [default: 400d]

    Quotas:
          --jobs-per-instance <N>  Maximum armed jobs of one agent instance. A new job beyond it is answered with
                                   429; jobs that are known are always armed again. [env:
                                   NAS_CRON_JOBS_PER_INSTANCE] [default: 10000]
          --jobs-per-org <N>       Maximum armed jobs of all agent instances of one org together. [env:
                                   NAS_CRON_JOBS_PER_ORG] [default: 1000000]

    Fires:
          --callback-allow <CIDR,…>     Non-public networks whose agents may be called, also over plain http. A
                                        bare address means that single host. [env: NAS_CRON_CALLBACK_ALLOW]
                                        [default: only public addresses, over https]
          --callback-ca-file <FILE>     Certificate authorities of agents, as PEM, in addition to those of the
                                        system. [env: NAS_CRON_CALLBACK_CA_FILE] [default: the system's
                                        certificate authorities only]
          --fire-timeout <DURATION>     Timeout of one delivery attempt, from connecting to the end of the
                                        response body. It must leave an agent time to boot. [env:
                                        NAS_CRON_FIRE_TIMEOUT] [default: 30s]
          --connect-timeout <DURATION>  Timeout for connecting to an agent, TLS handshake included. [env:
                                        NAS_CRON_CONNECT_TIMEOUT] [default: 10s]
          --in-flight-max <N>           Maximum concurrent delivery attempts per replica. [env:
                                        NAS_CRON_IN_FLIGHT_MAX] [default: 1024]
          --in-flight-per-instance <N>  Maximum concurrent delivery attempts to one agent instance, so that a slow
                                        agent does not delay others. [env: NAS_CRON_IN_FLIGHT_PER_INSTANCE]
                                        [default: 16]
          --fire-floor <DURATION>       Minimum time between two fires of one job. A fire that is due sooner is
                                        delayed. [env: NAS_CRON_FIRE_FLOOR] [default: 1s]

    Retries and repeats:
          --retry-definite-base <DURATION>    First retry delay after a definite refusal (connection refused, an
                                              HTTP status). Doubles with jitter. [env:
                                              NAS_CRON_RETRY_DEFINITE_BASE] [default: 1s]
          --retry-ambiguous-floor <DURATION>  Minimum retry delay after an ambiguous failure (timeout, connection
                                              reset, lost lease). It gives the agent time to re-arm first. [env:
                                              NAS_CRON_RETRY_AMBIGUOUS_FLOOR] [default: 10s]
          --retry-cap <DURATION>              Maximum retry delay, also for an agent's Retry-After. [env:
                                              NAS_CRON_RETRY_CAP] [default: 1h]
          --retry-give-up-after <DURATION>    Retry budget: time after the first failure at which a fire becomes a
                                              dead letter. [env: NAS_CRON_RETRY_GIVE_UP_AFTER] [default: 72h]
          --second-fire-delay <DURATION>      Time after a delivery at which a key that was provisioned again is
                                              fired once more. [env: NAS_CRON_SECOND_FIRE_DELAY] [default: 60s]
          --second-fire-interval <DURATION>   Minimum time between two second fires of one key. [env:
                                              NAS_CRON_SECOND_FIRE_INTERVAL] [default: 300s]
          --second-fires-max <N>              Maximum second fires of one key. After that the job is shown as
                                              stuck. [env: NAS_CRON_SECOND_FIRES_MAX] [default: 3]
          --claim-lifetime <DURATION>         Time for which agents keep a claim of a fire, also that of a process
                                              that died. A fire that is refused as a duplicate within it is sent
                                              once more. [env: NAS_CRON_CLAIM_LIFETIME] [default: 300s]
          --duplicate-delay <DURATION>        Time after an accepted or ambiguous attempt at which a fire that was
                                              refused as a duplicate is sent once more. [env:
                                              NAS_CRON_DUPLICATE_DELAY] [default: 330s]

    Scheduler and leases:
          --lease-horizon <DURATION>  Time before `fire_at` at which a replica leases a one-shot. [env:
                                      NAS_CRON_LEASE_HORIZON] [default: 2s]
          --lease-grace <DURATION>    Time after `fire_at` for which a one-shot whose attempt has not started
                                      stays leased. Worst-case delay after a replica crash is this plus one claim
                                      cycle. [env: NAS_CRON_LEASE_GRACE] [default: 3s]
          --lease-margin <DURATION>   Time by which the lease of a started attempt outlasts the attempt's timeout,
                                      to record its outcome. [env: NAS_CRON_LEASE_MARGIN] [default: 10s]
          --lease-capacity <N>        Maximum one-shots leased at once per replica. [env: NAS_CRON_LEASE_CAPACITY]
                                      [default: 8192]

    Scheduler backends:
          --backend <NAME>
              Scheduler backend to start with, when the database is new. Afterwards the active backend is stored
              in the database; change it with `nas-cron backend switch`. [env: NAS_CRON_BACKEND] [default:
              postgres]
          --relay-url <URL>
              Relay URL that external scheduler backends call. Their signatures are verified against it. [env:
              NAS_CRON_RELAY_URL] [default: {public_url}/api/agent-cron/relay]
          --watchdog-grace <DURATION>
              Time after `fire_at` to wait for the external backend's wake-up before nas-cron fires the one-shot
              itself. [env: NAS_CRON_WATCHDOG_GRACE] [default: 5s]
          --engine-timeout <DURATION>
              Timeout of one call to an external scheduler backend. [env: NAS_CRON_ENGINE_TIMEOUT] [default: 10s]
          --qstash-token <TEXT>
              Token for publishing to QStash. Setting it enables the backends qstash and qstash_direct. Visible to
              other users of the machine in the process list; prefer the variable or the file. [env:
              NAS_CRON_QSTASH_TOKEN] [default: QStash is not configured]
          --qstash-token-file <FILE>
              File that contains qstash_token [env: NAS_CRON_QSTASH_TOKEN_FILE]
          --qstash-current-signing-key <TEXT>
              Current signing key of QStash, to verify its calls. Visible to other users of the machine in the
              process list; prefer the variable or the file. [env: NAS_CRON_QSTASH_CURRENT_SIGNING_KEY] [default:
              required with qstash_token]
          --qstash-current-signing-key-file <FILE>
              File that contains qstash_current_signing_key [env: NAS_CRON_QSTASH_CURRENT_SIGNING_KEY_FILE]
          --qstash-next-signing-key <TEXT>
              Next signing key of QStash, accepted too so that a rotation needs no downtime. Visible to other
              users of the machine in the process list; prefer the variable or the file. [env:
              NAS_CRON_QSTASH_NEXT_SIGNING_KEY] [default: none]
          --qstash-next-signing-key-file <FILE>
              File that contains qstash_next_signing_key [env: NAS_CRON_QSTASH_NEXT_SIGNING_KEY_FILE]
          --qstash-url <URL>
              Base URL of the QStash API; it depends on the region. [env: NAS_CRON_QSTASH_URL] [default:
              https://qstash.upstash.io]
          --qstash-region <NAME>
              Region of QStash to publish to. Calls from every configured region are accepted. [env:
              NAS_CRON_QSTASH_REGION] [default: the account of qstash_token, or else that of the only configured
              region]
          --eu-central-1-qstash-token <TEXT>
              Token of the account in the region eu-central-1. Visible to other users of the machine in the
              process list; prefer the variable or the file. [env: NAS_CRON_EU_CENTRAL_1_QSTASH_TOKEN] [default:
              no account in this region]
          --eu-central-1-qstash-token-file <FILE>
              File that contains eu_central_1_qstash_token [env: NAS_CRON_EU_CENTRAL_1_QSTASH_TOKEN_FILE]
          --eu-central-1-qstash-current-signing-key <TEXT>
              Current signing key of the account in the region eu-central-1. Visible to other users of the machine
              in the process list; prefer the variable or the file. [env:
              NAS_CRON_EU_CENTRAL_1_QSTASH_CURRENT_SIGNING_KEY] [default: required with eu_central_1_qstash_token]
          --eu-central-1-qstash-current-signing-key-file <FILE>
              File that contains eu_central_1_qstash_current_signing_key [env:
              NAS_CRON_EU_CENTRAL_1_QSTASH_CURRENT_SIGNING_KEY_FILE]
          --eu-central-1-qstash-next-signing-key <TEXT>
              Next signing key of the account in the region eu-central-1. Visible to other users of the machine in
              the process list; prefer the variable or the file. [env:
              NAS_CRON_EU_CENTRAL_1_QSTASH_NEXT_SIGNING_KEY] [default: none]
          --eu-central-1-qstash-next-signing-key-file <FILE>
              File that contains eu_central_1_qstash_next_signing_key [env:
              NAS_CRON_EU_CENTRAL_1_QSTASH_NEXT_SIGNING_KEY_FILE]
          --eu-central-1-qstash-url <URL>
              Base URL of the QStash API in the region eu-central-1. [env: NAS_CRON_EU_CENTRAL_1_QSTASH_URL]
              [default: https://qstash-eu-central-1.upstash.io]
          --us-east-1-qstash-token <TEXT>
              Token of the account in the region us-east-1. Visible to other users of the machine in the process
              list; prefer the variable or the file. [env: NAS_CRON_US_EAST_1_QSTASH_TOKEN] [default: no account
              in this region]
          --us-east-1-qstash-token-file <FILE>
              File that contains us_east_1_qstash_token [env: NAS_CRON_US_EAST_1_QSTASH_TOKEN_FILE]
          --us-east-1-qstash-current-signing-key <TEXT>
              Current signing key of the account in the region us-east-1. Visible to other users of the machine in
              the process list; prefer the variable or the file. [env:
              NAS_CRON_US_EAST_1_QSTASH_CURRENT_SIGNING_KEY] [default: required with us_east_1_qstash_token]
          --us-east-1-qstash-current-signing-key-file <FILE>
              File that contains us_east_1_qstash_current_signing_key [env:
              NAS_CRON_US_EAST_1_QSTASH_CURRENT_SIGNING_KEY_FILE]
          --us-east-1-qstash-next-signing-key <TEXT>
              Next signing key of the account in the region us-east-1. Visible to other users of the machine in
              the process list; prefer the variable or the file. [env: NAS_CRON_US_EAST_1_QSTASH_NEXT_SIGNING_KEY]
              [default: none]
          --us-east-1-qstash-next-signing-key-file <FILE>
              File that contains us_east_1_qstash_next_signing_key [env:
              NAS_CRON_US_EAST_1_QSTASH_NEXT_SIGNING_KEY_FILE]
          --us-east-1-qstash-url <URL>
              Base URL of the QStash API in the region us-east-1. [env: NAS_CRON_US_EAST_1_QSTASH_URL] [default:
              https://qstash-us-east-1.upstash.io]
          --qstash-retries <N>
              Number of times QStash repeats a relay call that was not accepted; limited by the plan. Retries to
              the agent are always made by nas-cron. [env: NAS_CRON_QSTASH_RETRIES] [default: 3]
          --qstash-furthest <DURATION>
              Maximum delay that the QStash plan allows. One-shots further ahead are handed to QStash later. [env:
              NAS_CRON_QSTASH_FURTHEST] [default: 7d]
          --qstash-direct-grace <DURATION>
              For qstash_direct: time after `fire_at` to wait for a result in QStash's log before nas-cron fires
              the one-shot itself. [env: NAS_CRON_QSTASH_DIRECT_GRACE] [default: 15m]
          --nats-urls <NAME,…>
              URLs of the NATS servers (JetStream, 2.12 or later). Setting them enables the nats backend. [env:
              NAS_CRON_NATS_URLS] [default: NATS is not configured]
          --nats-credentials-file <FILE>
              Credentials file (.creds) of the NATS account. [env: NAS_CRON_NATS_CREDENTIALS_FILE] [default: no
              authentication]
          --nats-ca-file <FILE>
              Certificate authorities for the NATS servers' certificates, as PEM. [env: NAS_CRON_NATS_CA_FILE]
              [default: the system's certificate authorities]
          --nats-certificate-file <FILE>
              Client certificate for the NATS servers, as PEM. Requires nats_key_file. [env:
              NAS_CRON_NATS_CERTIFICATE_FILE] [default: none]
          --nats-key-file <FILE>
              Private key of the client certificate, as PEM. [env: NAS_CRON_NATS_KEY_FILE] [default: none]
          --nats-stream <TEXT>
              Name of the stream that holds the wake-ups. It is created if missing. [env: NAS_CRON_NATS_STREAM]
              [default: NAS_CRON]
          --nats-subject <TEXT>
              Prefix of the stream's subjects, and name of its consumer. Each nas-cron service on the same NATS
              account needs its own subject and stream. [env: NAS_CRON_NATS_SUBJECT] [default: nas-cron]
          --nats-replicas <N>
              Number of NATS servers that store each wake-up. Use 3 in a cluster. [env: NAS_CRON_NATS_REPLICAS]
              [default: 1]

    Events:
          --event-group-wait <DURATION>      Time from the first occurrence to the event that reports it. What
                                             else happens in this time is in the same event. [env:
                                             NAS_CRON_EVENT_GROUP_WAIT] [default: 30s]
          --event-group-interval <DURATION>  Minimum time between two events of one topic. What happens in this
                                             time is in the next event. [env: NAS_CRON_EVENT_GROUP_INTERVAL]
                                             [default: 5m]

    History:
          --history-retention <DURATION>     Retention period of the delivery history (fires and their attempts).
                                             [env: NAS_CRON_HISTORY_RETENTION] [default: 30d]
          --error-text-retention <DURATION>  Time after which the texts of agents' error responses are erased from
                                             one-shots and from the history. Status and outcome stay. [env:
                                             NAS_CRON_ERROR_TEXT_RETENTION] [default: {history_retention}]

    Stopping:
          --drain-delay <DURATION>       Time after the first SIGTERM during which requests are still served,
                                         /readyz returns 503 and no new fires are claimed. [env:
                                         NAS_CRON_DRAIN_DELAY] [default: 15s]
          --shutdown-timeout <DURATION>  Time after the drain delay to wait for attempts in flight. The
                                         orchestrator's grace period must exceed drain_delay plus this. [env:
                                         NAS_CRON_SHUTDOWN_TIMEOUT] [default: 45s]

    Logs:
          --log-format <NAME>        Format of log lines on stderr. `auto` is pretty on a terminal and JSON
                                     otherwise. [env: NAS_CRON_LOG_FORMAT] [default: auto]
          --log-filter <DIRECTIVES>  Log level of the service, optionally per module, such as
                                     `info,nas_cron::fire=debug`. Operator commands log only with the flag, or
                                     with `RUST_LOG`. [env: NAS_CRON_LOG_FILTER] [default: info]

    Traces:
          --otlp-endpoint <URL>          URL of an OTLP/HTTP receiver for traces, usually with port 4318.
                                         `/v1/traces` is appended. Setting it enables traces. [env:
                                         NAS_CRON_OTLP_ENDPOINT] [default: no traces]
          --otlp-headers <TEXT>          Headers for otlp_endpoint, as `name=value` with commas or line breaks
                                         between them. Special characters of values are percent-encoded. Visible
                                         to other users of the machine in the process list; prefer the variable or
                                         the file. [env: NAS_CRON_OTLP_HEADERS] [default: none]
          --otlp-headers-file <FILE>     File that contains otlp_headers [env: NAS_CRON_OTLP_HEADERS_FILE]
          --traces-sample-ratio <RATIO>  Share of the agent API's requests that are recorded in traces, from 0 to
                                         1, with all attempts of the one-shots that they arm. A caller's
                                         `traceparent` takes precedence. [env: NAS_CRON_TRACES_SAMPLE_RATIO]
                                         [default: 1]
    "#);
}
