//! Mapping of Rust enums to columns of Postgres enums.
//!
//! Enums of this crate implement `sqlx::Type` here, so that nothing outside `db` depends on `sqlx`. Enums of the
//! protocol crate are wrapped: a statement reads them as `"state: Word<OneShotState>"`.

use std::str::FromStr;

use nas_cron_protocol::admin_api::{DormantReason, HoldScope, QuotaScope};
use nas_cron_protocol::{AuthScope, BackendName, DeadReason, FireOutcome, OneShotState, ParkReason};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo, PgValueRef};
use sqlx::{Decode, Encode, Postgres, Type, ValueRef};

use crate::domain::actor::Role;
use crate::domain::audit::AuditOutcome;
use crate::domain::dormancy::DormancyChange;
use crate::domain::recurrence::RecurrenceKind;
use crate::domain::webhook::{DeliveryState, WebhookEnd};
use crate::domain::{KeyState, LoginEnd, PortalDenial, SigningAlg};

/// A Rust enum that is stored as the Postgres enum `TYPE`.
pub(super) trait StoredWord: Copy + FromStr<Err: Into<BoxDynError>> {
    /// Name of the Postgres enum.
    const TYPE: &'static str;
    /// Returns the stored label of the value.
    fn label(self) -> &'static str;
}

/// A value of an enum of the protocol crate in a column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Word<T>(pub(super) T);

/// The same in a column that may be null: `"parked!: OptionalWord<ParkReason>"`.
#[derive(Clone, Copy, Debug)]
pub(super) struct OptionalWord<T>(pub(super) Option<T>);

impl<T: StoredWord> Type<Postgres> for OptionalWord<T> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name(T::TYPE)
    }
}

impl<T: StoredWord> Decode<'_, Postgres> for OptionalWord<T> {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        if value.is_null() { Ok(Self(None)) } else { Word::decode(value).map(|word| Self(Some(word.0))) }
    }
}

impl<T: StoredWord> Type<Postgres> for Word<T> {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_name(T::TYPE)
    }
}

impl<T: StoredWord> Encode<'_, Postgres> for Word<T> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode_by_ref(&self.0.label(), buffer)
    }
}

impl<T: StoredWord> Decode<'_, Postgres> for Word<T> {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        value.as_str()?.parse().map(Self).map_err(Into::into)
    }
}

macro_rules! stored {
    ($($word:ty = $type:literal),+ $(,)?) => {
        $(impl StoredWord for $word {
            const TYPE: &'static str = $type;

            fn label(self) -> &'static str {
                self.as_str()
            }
        })+
    };
}

macro_rules! wrapped {
    ($($word:ty = $type:literal),+ $(,)?) => {
        stored!($($word = $type),+);
        $(impl From<Word<$word>> for $word {
            fn from(word: Word<$word>) -> Self {
                word.0
            }
        }

        impl From<OptionalWord<$word>> for Option<$word> {
            fn from(word: OptionalWord<$word>) -> Self {
                word.0
            }
        })+
    };
}

macro_rules! own {
    ($($word:ty = $type:literal),+ $(,)?) => {
        stored!($($word = $type),+);
        $(impl Type<Postgres> for $word {
            fn type_info() -> PgTypeInfo {
                Word::<Self>::type_info()
            }
        }

        impl Encode<'_, Postgres> for $word {
            fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
                Word(*self).encode_by_ref(buffer)
            }
        }

        impl Decode<'_, Postgres> for $word {
            fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
                Word::decode(value).map(|word| word.0)
            }
        })+
    };
}

wrapped!(
    AuthScope = "auth_scope",
    BackendName = "scheduler_backend",
    DeadReason = "text",
    DormantReason = "text",
    FireOutcome = "fire_outcome",
    HoldScope = "hold_scope",
    OneShotState = "one_shot_state",
    ParkReason = "park_reason",
    QuotaScope = "quota_scope",
);

own!(
    AuditOutcome = "audit_outcome",
    DeliveryState = "delivery_state",
    DormancyChange = "text",
    KeyState = "key_state",
    LoginEnd = "login_end",
    PortalDenial = "portal_denial",
    RecurrenceKind = "recurrence_kind",
    Role = "admin_role",
    SigningAlg = "signing_alg",
    WebhookEnd = "webhook_end",
);
