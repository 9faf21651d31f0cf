//! The record beside an object: from what and by what it was built.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::workspace;

#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Record {
    /// See `source_hash`.
    pub source_hash: String,
    /// SHA-256 of the object itself: ties the record to its object.
    pub object_hash: String,
    pub rustc: String,
    pub llvm: String,
    pub bpf_linker: String,
    pub target: String,
    pub flags: Vec<String>,
}

impl Record {
    /// Where the record of `object` is: tracker.bpf.o has tracker.bpf.toml.
    pub fn path_for(object: &Path) -> PathBuf {
        object.with_extension("toml")
    }

    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", workspace::display(path)))?;
        toml::from_str(&text).with_context(|| format!("{} is not a record", workspace::display(path)))
    }

    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = toml::to_string(self).context("cannot write the record as TOML")?;
        let text = format!("# Written by `cargo xtask build-ebpf`, together with the object beside it.\n{text}");
        fs::write(path, text).with_context(|| format!("cannot write {}", workspace::display(path)))
    }

    /// Whether both were built by the same versions of everything, so that their objects should be
    /// equal byte by byte.
    pub fn same_tools(&self, other: &Self) -> bool {
        (&self.rustc, &self.llvm, &self.bpf_linker) == (&other.rustc, &other.llvm, &other.bpf_linker)
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
