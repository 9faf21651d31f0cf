//! `cargo xtask clippy-ebpf`: clippy for the eBPF programs. On the host their packages are stubs,
//! so `cargo clippy --workspace` does not see them.

use anyhow::Context as _;
use clap::Args;

use crate::{
    command, ebpf_cargo,
    ebpf_package::EbpfPackage,
    needs::{self, InstallOptions},
    toolchain::{self, Toolchain},
};

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    install: InstallOptions,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    needs::provide("the eBPF programs", &[], &[&toolchain::missing], options.install)?;
    let toolchain = Toolchain::find()?;
    let clippy = toolchain.cargo_clippy.as_ref().with_context(|| {
        format!(
            "{} has no clippy beside it: install that (rustup component clippy, Debian package rust-web-clippy)",
            toolchain.rustc.display()
        )
    })?;
    for package in EbpfPackage::ALL {
        command::run(ebpf_cargo::command(&toolchain, clippy, "clippy", package)?.args(["--", "-D", "warnings"]))?;
    }
    Ok(())
}
