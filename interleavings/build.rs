//! Says to the sources of tracker-common that they are compiled for a model checker.

fn main() {
    println!("cargo::rustc-cfg=interleaved");
    println!("cargo::rerun-if-changed=build.rs");
}
