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

/// Who issues the agents' tokens.
#[derive(Clone, Debug)]
pub struct Portal {
    /// Issuer of access tokens and of fire tokens, byte for byte.
    pub url: BaseUrl,
    /// Where the keys of its tokens come from.
    pub jwks: PortalJwks,
    /// Allowed `aud` of access tokens; empty: not judged.
    pub audiences: Vec<String>,
    /// How long the access tokens live that are issued here, where [`PortalJwks::Own`] is set.
    pub access_token_ttl: Duration,
    /// Where the portal is asked which instances there are; `None`: our own table knows.
    pub lookup: Option<Lookup>,
    /// Where the portal is asked what an opaque token stands for.
    pub introspection: Option<Introspection>,
    /// How long an answer about an active token is taken as it is, whichever issuer's.
    pub introspection_ttl: Duration,
    /// Further issuers, none of them called like the portal.
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
        "the audience of our own access tokens is not among them",
        &format!("add {HOSTED_CLIENT} to portal_audiences, or leave it out"),
    );
    lookup::check(portal.lookup.as_ref(), own, reader);
    introspection::check(portal.introspection.as_ref(), own, reader);
    reader.rule(
        &[ISSUERS_FILE.setting, PORTAL_URL.setting],
        portal.issuers.iter().all(|other| other.issuer != portal.url.as_str()),
        "the portal is among the further issuers, and a token could be judged by the rules of either",
        "take that table out of the file: the portal's rules are settings of their own",
    );
}
