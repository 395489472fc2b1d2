//! Identity beyond one table: the portal's lookup, opaque tokens, and several issuers, over real sockets and the real
//! binary (docs/portals.md).

#[path = "portals/assertions.rs"]
mod assertions;
#[path = "portals/authority.rs"]
mod authority;
#[path = "portals/bed.rs"]
mod bed;
#[path = "portals/denials.rs"]
mod denials;
#[path = "portals/issuers.rs"]
mod issuers;
#[expect(dead_code, reason = "agents with keys are needed here for one thing only")]
#[path = "agent_identity/bed.rs"]
mod keyed;
#[path = "portals/lookup.rs"]
mod lookup;
#[path = "portals/opaque.rs"]
mod opaque;
#[path = "portals/outages.rs"]
mod outages;
mod support;
