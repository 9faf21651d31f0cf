//! `cargo xtask clippy-ebpf`: clippy for the eBPF programs. On the host their packages are stubs, so `cargo clippy
//! --workspace` does not see them.

use crate::{command, ebpf_cargo, ebpf_package::EbpfPackage, toolchain::Toolchain};

pub fn run() -> anyhow::Result<()> {
    let toolchain = Toolchain::find_or_install()?;
    let Some(clippy) = &toolchain.cargo_clippy else {
        eprintln!(
            "skipped: {} has no clippy beside it (rustup component clippy, Debian package rust-web-clippy)",
            toolchain.rustc.display()
        );
        return Ok(());
    };
    for package in EbpfPackage::ALL {
        command::run(ebpf_cargo::command(&toolchain, clippy, "clippy", package)?.args(["--", "-D", "warnings"]))?;
    }
    Ok(())
}
