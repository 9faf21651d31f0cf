//! Where the XDP program may run.

use clap::ValueEnum;

/// Where the XDP program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum XdpMode {
    /// The best that works.
    #[default]
    Auto,
    /// In the driver.
    Native,
    /// In the network stack.
    Generic,
    /// In the network card what that can, and the rest as with auto.
    Offload,
    /// Nowhere.
    Off,
}

impl XdpMode {
    /// Its name as an option.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offload => "offload",
            Self::Off => "off",
        }
    }

    /// Whether the best place beside the card is chosen.
    #[must_use]
    pub const fn chooses(self) -> bool {
        matches!(self, Self::Auto | Self::Offload)
    }
}
