//! Tables of variants that have names for machines and sentences for people.

/// Declares an enum whose variants carry a metric label and a sentence for people, and optionally
/// one value more. The discriminants count from the given number on.
#[macro_export]
macro_rules! labelled {
    (
        $(#[$doc:meta])*
        $name:ident from ($start:expr), $(#[$value_doc:meta])* $column:ident: $type:ty {
            $($variant:ident = $label:literal, $text:literal, $value:expr;)*
        }
    ) => {
        $crate::labelled! { $(#[$doc])* $name from ($start) { $($variant = $label, $text;)* } }

        impl $name {
            $(#[$value_doc])*
            #[must_use]
            pub const fn $column(self) -> $type {
                match self { $(Self::$variant => $value,)* }
            }
        }
    };
    (
        $(#[$doc:meta])*
        $name:ident from ($start:expr) {
            $first:ident = $first_label:literal, $first_text:literal;
            $($variant:ident = $label:literal, $text:literal;)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name {
            #[doc = $first_text]
            $first = $start,
            $(#[doc = $text] $variant,)*
        }

        impl $name {
            /// All of them, in the order of their counters.
            pub const ALL: &'static [Self] = &[Self::$first, $(Self::$variant,)*];

            /// The metric label.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    Self::$first => $first_label,
                    $(Self::$variant => $label,)*
                }
            }

            /// One sentence for people.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    Self::$first => $first_text,
                    $(Self::$variant => $text,)*
                }
            }
        }
    };
}
