//! The auth of a fire: the nearest of the places that set one.

use serde::{Deserialize, Serialize};

use crate::{AuthChoice, AuthScope};

/// Source of a fire's auth, the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AuthSource {
    /// The job's own auth.
    Job,
    /// Its instance's default.
    Instance,
    /// Its org's default.
    Org,
    /// The service's default.
    Service,
}

impl AuthSource {
    /// The word in JSON, docs and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Instance => AuthScope::Instance.as_str(),
            Self::Org => AuthScope::Org.as_str(),
            Self::Service => AuthScope::Service.as_str(),
        }
    }
}

impl std::fmt::Display for AuthSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// The auth of a fire.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EffectiveAuth {
    /// The profiles that the fire carries, or `false` for explicitly none.
    pub auth: AuthChoice,
    /// Source of the profiles.
    pub source: AuthSource,
}

/// Resolves the auth of a fire: the job's own, else its instance's default, else its org's, else the service's, else
/// none. An explicit [`AuthChoice::NoProfile`] ends the search like any other value.
pub fn resolve_auth(
    job: Option<AuthChoice>,
    instance: Option<AuthChoice>,
    org: Option<AuthChoice>,
    service: Option<AuthChoice>,
) -> Option<EffectiveAuth> {
    let candidates = [
        (job, AuthSource::Job),
        (instance, AuthSource::Instance),
        (org, AuthSource::Org),
        (service, AuthSource::Service),
    ];
    candidates.into_iter().find_map(|(auth, source)| Some(EffectiveAuth { auth: auth?, source }))
}

#[cfg(test)]
mod tests {
    use crate::AuthProfile;

    use super::*;

    const PLACES: [AuthSource; 4] =
        [AuthSource::Job, AuthSource::Instance, AuthSource::Org, AuthSource::Service];

    #[test]
    fn nearest_place_decides_in_all_combinations_of_unset_profile_and_false() {
        let own = |place: AuthSource| AuthChoice::Profile(AuthProfile::new(format!("p:{place}")).unwrap());
        for case in 0..81_u8 {
            let digits = [case / 27, case / 9 % 3, case / 3 % 3, case % 3];
            let set = |at: usize| match digits[at] {
                0 => None,
                1 => Some(own(PLACES[at])),
                _ => Some(AuthChoice::NoProfile),
            };
            let nearest = (0..4).find(|at| digits[*at] > 0);
            let expected = nearest.and_then(|at| Some(EffectiveAuth { auth: set(at)?, source: PLACES[at] }));
            assert_eq!(resolve_auth(set(0), set(1), set(2), set(3)), expected, "{digits:?}");
        }
    }
}
