//! Schemas of texts, for the `OpenAPI` document. A type's schema is beside the check of its values, and both use the same
//! constants.

use utoipa::openapi::RefOr;
use utoipa::openapi::extensions::ExtensionsBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaFormat, Type};

/// The limits of a text. JSON Schema counts characters, so limits in bytes are also in `x-max-bytes`.
#[derive(Clone, Copy, Debug)]
pub struct TextSchema {
    /// Description for readers of the document.
    pub description: &'static str,
    /// Maximum length in bytes.
    pub max_bytes: Option<usize>,
    /// Regular expression (ECMA-262) that every valid text matches.
    pub pattern: Option<&'static str>,
    /// Name of the form, where a regular expression cannot describe it.
    pub format: Option<&'static str>,
    /// A valid text.
    pub example: &'static str,
}

impl From<TextSchema> for RefOr<Schema> {
    fn from(text: TextSchema) -> Self {
        let bytes = text.max_bytes.map(|max| ExtensionsBuilder::new().add("x-max-bytes", max).build());
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(text.description))
            .min_length(text.max_bytes.map(|_| 1))
            .max_length(text.max_bytes)
            .pattern(text.pattern)
            .format(text.format.map(|format| SchemaFormat::Custom(format.to_owned())))
            .examples([text.example])
            .extensions(bytes)
            .into()
    }
}

/// Gives a type the schema of a text.
#[macro_export]
macro_rules! text_schema {
    ($name:ident, $schema:expr) => {
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                $schema.into()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}
