//! stub
pub mod fire_token {
    pub struct FireSubject<'a> {
        pub instance_id: &'a crate::domain::InstanceId,
        pub job_id: &'a crate::domain::JobId,
        pub fire_at: &'a crate::domain::FireAt,
    }
}
pub mod ring {
    #[derive(Debug)]
    pub struct KeyRing;
    #[derive(Debug, thiserror::Error)]
    #[error("x")]
    pub struct MintError;
    impl KeyRing {
        pub fn mint(
            &self,
            _: super::fire_token::FireSubject<'_>,
        ) -> Result<secrecy::SecretString, MintError> {
            Err(MintError)
        }
    }
}
