//! Typed keys of settings. Code names a constant, so a misspelt key or a wrong type does not compile.

use super::setting::Setting;
use super::values::ValueType;

/// A setting that always has a value: it is required, has a default, or follows another setting.
#[derive(Debug)]
pub struct Key<T> {
    /// Its row in the table.
    pub setting: &'static Setting,
    /// How its text is read.
    pub(super) value: ValueType<T>,
}

/// A setting that may be unset.
#[derive(Debug)]
pub struct OptionalKey<T> {
    /// Its row in the table.
    pub setting: &'static Setting,
    /// How its text is read.
    pub(super) value: ValueType<T>,
}

/// A setting with any number of values, none where it is unset.
#[derive(Debug)]
pub struct ListKey<T> {
    /// Its row in the table.
    pub setting: &'static Setting,
    /// How each of its texts is read.
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

        /// The section's rows of the table, in the order in which they are shown.
        pub const SETTINGS: &[$crate::config::setting::Setting] = &[$(*$key.setting),+];
    };
}

pub(super) use settings;
