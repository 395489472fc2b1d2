//! The portal: issuer of the agents' access tokens, and source of agent instances.

pub(in crate::config) mod introspection;
pub(in crate::config) mod issuer;
pub(in crate::config) mod issuers;
pub(in crate::config) mod lookup;
pub(in crate::config) mod own;

use std::time::Duration;

use nas_cron_protocol::HOSTED_CLIENT;

use self::introspection::{INTROSPECTION_TTL, Introspection};
use self::issuer::{PORTAL_AUDIENCES, PORTAL_URL, PortalJwks};
use self::issuers::{ISSUERS_FILE, Issuer};
use self::lookup::Lookup;
use self::own::{ACCESS_TOKEN_TTL, OWN_PORTAL};
use crate::config::reader::Reader;
use crate::config::setting::Setting;
use crate::config::urls::BaseUrl;

/// The portal, and further issuers of access tokens.
#[derive(Clone, Debug)]
pub struct Portal {
    /// Issuer (`iss`) of access tokens and fire tokens, byte for byte.
    pub url: BaseUrl,
    /// Source of the keys that verify the portal's tokens.
    pub jwks: PortalJwks,
    /// Accepted `aud` of access tokens; empty accepts any.
    pub audiences: Vec<String>,
    /// Lifetime of access tokens issued by the built-in portal ([`PortalJwks::Own`]).
    pub access_token_ttl: Duration,
    /// The portal's lookup API; `None` if the service's own table lists the instances.
    pub lookup: Option<Lookup>,
    /// Introspection endpoint for opaque tokens.
    pub introspection: Option<Introspection>,
    /// Cache TTL of active opaque tokens, for every issuer.
    pub introspection_ttl: Duration,
    /// Further issuers; none has the portal's `iss`.
    pub issuers: Vec<Issuer>,
}

/// The section's rows of the table.
pub(in crate::config) const TABLES: &[&[Setting]] =
    &[issuer::SETTINGS, own::SETTINGS, lookup::SETTINGS, introspection::SETTINGS, issuers::SETTINGS];

pub(in crate::config) fn read(reader: &mut Reader<'_>) -> Portal {
    Portal {
        url: reader.value(&PORTAL_URL),
        jwks: if reader.value(&OWN_PORTAL) { PortalJwks::Own } else { issuer::read_jwks(reader) },
        audiences: reader.list(&PORTAL_AUDIENCES),
        access_token_ttl: reader.value(&ACCESS_TOKEN_TTL),
        lookup: lookup::read(reader),
        introspection: introspection::read(reader),
        introspection_ttl: reader.value(&INTROSPECTION_TTL),
        issuers: reader.optional(&ISSUERS_FILE).unwrap_or_default(),
    }
}

pub(in crate::config) fn check(portal: &Portal, reader: &mut Reader<'_>) {
    let own = portal.jwks == PortalJwks::Own;
    issuer::check(reader);
    own::check(own, reader);
    reader.rule(
        &[OWN_PORTAL.setting, PORTAL_AUDIENCES.setting],
        !own || portal.audiences.is_empty() || portal.audiences.iter().any(|one| one == HOSTED_CLIENT),
        "the audience of the built-in portal's own access tokens is missing",
        &format!("add {HOSTED_CLIENT} to portal_audiences, or remove portal_audiences"),
    );
    lookup::check(portal.lookup.as_ref(), own, reader);
    introspection::check(portal.introspection.as_ref(), own, reader);
    reader.rule(
        &[ISSUERS_FILE.setting, PORTAL_URL.setting],
        portal.issuers.iter().all(|other| other.issuer != portal.url.as_str()),
        "the issuers file contains the portal itself, so a token could match two sets of rules",
        "remove that table from the file: the portal has its own settings",
    );
    reader.rule(
        &[OWN_PORTAL.setting, ISSUERS_FILE.setting],
        !own || !portal.issuers.iter().any(|other| other.agents_by_audience),
        "an issuer has agents_by_audience = true, which the built-in portal rules out",
        "remove agents_by_audience from the file: these agents need a client_id or a session in their tokens",
    );
}
