//! Identity beyond one table: the portal's lookup, opaque tokens, and several issuers, over real sockets and the real
//! binary (docs/portals.md).

mod assertions;
mod authority;
mod denials;
mod fixture;
mod issuers;
mod lookup;
mod opaque;
mod outages;
