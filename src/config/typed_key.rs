//! Typed keys of settings. Code refers to constants, so a misspelt key or a wrong type does not compile.

use super::setting::Setting;
use super::values::ValueType;

/// A setting that always has a value: required, with a default, or derived from another setting.
#[derive(Debug)]
pub struct Key<T> {
    /// Row in the table.
    pub setting: &'static Setting,
    /// Type of its value.
    pub(super) value: ValueType<T>,
}

/// A setting that may be unset.
#[derive(Debug)]
pub struct OptionalKey<T> {
    /// Row in the table.
    pub setting: &'static Setting,
    /// Type of its value.
    pub(super) value: ValueType<T>,
}

/// A setting with any number of values; none if unset.
#[derive(Debug)]
pub struct ListKey<T> {
    /// Row in the table.
    pub setting: &'static Setting,
    /// Type of each value.
    pub(super) value: ValueType<T>,
}

/// Declares the settings of one section: a typed key for each, and `SETTINGS`, the section's rows of the table.
macro_rules! settings {
    ($section:ident: $($key:ident: $shape:ident<$type:ty> = $name:literal, $value:expr, $default:expr, $help:literal;)+) => {
        $(
            #[doc = concat!("The setting `", $name, "`.")]
            pub const $key: $shape<$type> = $shape {
                setting: &$crate::config::setting::Setting {
                    key: $name,
                    section: $crate::config::setting::Section::$section,
                    kind: $value.kind,
                    default: $default,
                    secret: $value.secret,
                    help: $help,
                },
                value: $value,
            };
        )+

        /// The section's rows of the table, in display order.
        pub const SETTINGS: &[$crate::config::setting::Setting] = &[$(*$key.setting),+];
    };
}

pub(super) use settings;
