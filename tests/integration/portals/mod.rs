//! The portal's lookup, opaque tokens and several issuers (docs/portals.md), over real sockets and with the real
//! binary.

mod assertions;
mod authority;
mod callers;
mod denials;
mod fixture;
mod issuers;
mod lookup;
mod opaque;
mod outages;
