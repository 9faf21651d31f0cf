//! Kernels and modules without their compression.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context as _, bail, ensure};

use crate::workspace;

/// A kernel in the form that boot loaders take (Documentation/arch/x86/boot.rst), without its
/// compression: an ELF file, which qemu can start where the kernel was built with CONFIG_PVH, as
/// Debian's are.
pub fn decompress(file: &Path) -> anyhow::Result<Vec<u8>> {
    let kernel = fs::read(file).with_context(|| format!("cannot read {}", workspace::display(file)))?;
    let taken = || -> anyhow::Result<Vec<u8>> {
        let (payload, length) = payload(&kernel)?;
        let elf = pipe(program_for(payload)?, payload)?;
        ensure!(elf.starts_with(b"\x7fELF"), "what was compressed is no ELF file");
        ensure!(elf.len() == length, "it decompresses to {} bytes instead of {length}", elf.len());
        Ok(elf)
    };
    taken().with_context(|| format!("cannot decompress the kernel {}", workspace::display(file)))
}

/// A module as the kernel takes it; busybox's insmod decompresses none.
pub fn decompressed_file(file: &Path) -> anyhow::Result<Vec<u8>> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", workspace::display(file)))?;
    if bytes.starts_with(b"\x7fELF") {
        return Ok(bytes);
    }
    let taken = || pipe(program_for(&bytes)?, &bytes);
    taken().with_context(|| format!("cannot decompress the module {}", workspace::display(file)))
}

/// The compressed part of a kernel, and how long it is without compression.
fn payload(kernel: &[u8]) -> anyhow::Result<(&[u8], usize)> {
    /// Where the header has the number of its sectors, its magic number, and where the payload lies
    /// behind the header.
    const SECTORS: usize = 0x1f1;
    const MAGIC: usize = 0x202;
    const PAYLOAD: usize = 0x248;

    let word = |at: usize| -> anyhow::Result<usize> {
        let bytes = kernel.get(at..at + 4).context("it is shorter than its header")?;
        Ok(u32::from_le_bytes(bytes.try_into()?) as usize)
    };
    ensure!(kernel.get(MAGIC..MAGIC + 4) == Some(b"HdrS"), "it has no boot header");
    let sectors = match kernel[SECTORS] {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let begin = (sectors + 1) * 512 + word(PAYLOAD)?;
    // The last four bytes are the length without compression; gzip has them as a part of its own
    // format.
    let end = begin + word(PAYLOAD + 4)?;
    let length = word(end.checked_sub(4).context("its payload is empty")?)?;
    let payload = kernel.get(begin..end).context("it is shorter than its header says")?;
    let is_gzip = payload.starts_with(GZIP);
    Ok((if is_gzip { payload } else { &payload[..payload.len().saturating_sub(4)] }, length))
}

const GZIP: &[u8] = &[0x1f, 0x8b];

/// The program that decompresses what begins like this.
fn program_for(compressed: &[u8]) -> anyhow::Result<&'static str> {
    let known = [(&b"\xfd7zXZ\0"[..], "xz"), (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"), (GZIP, "gzip")];
    let found = known.iter().find(|(magic, _)| compressed.starts_with(magic));
    match found {
        Some((_, program)) => Ok(program),
        None => bail!("it is compressed in a way that is unknown here: neither by xz nor zstd nor gzip"),
    }
}

/// Sends `bytes` through a program that decompresses.
fn pipe(program: &str, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut child = Command::new(program)
        .args(["--decompress", "--stdout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let mut input = child.stdin.take().context("stdin was piped")?;
    let output = thread::scope(|scope| {
        // What ends the writing early is told by the exit status.
        scope.spawn(move || drop(input.write_all(bytes)));
        child.wait_with_output()
    });
    let output = output.with_context(|| format!("cannot read from {program}"))?;
    ensure!(output.status.success(), "{program} failed: {}", output.status);
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A kernel with one sector of header and the payload 16 bytes behind it.
    fn kernel(payload: &[u8], length: u32) -> Vec<u8> {
        let mut kernel = vec![0; 1024 + 16];
        kernel[0x1f1] = 1;
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel[0x248..0x24c].copy_from_slice(&16_u32.to_le_bytes());
        let size = u32::try_from(payload.len()).unwrap() + 4;
        kernel[0x24c..0x250].copy_from_slice(&size.to_le_bytes());
        kernel.extend(payload);
        kernel.extend(length.to_le_bytes());
        kernel
    }

    #[test]
    fn payload_is_found_by_the_boot_header() {
        let whole = kernel(b"\xfd7zXZ\0payload", 77);
        assert_eq!(payload(&whole).unwrap(), (&b"\xfd7zXZ\0payload"[..], 77));
        // Of gzip's format the length is a part.
        let gzip = kernel(&[0x1f, 0x8b, 8], 77);
        assert_eq!(payload(&gzip).unwrap(), (&[0x1f, 0x8b, 8, 77, 0, 0, 0][..], 77));

        let no_magic = [&whole[..0x202], b"----", &whole[0x206..]].concat();
        for (broken, why) in [
            (&whole[..whole.len() - 1], "shorter than its header"),
            (&whole[..0x240], "shorter than its header"),
            (&no_magic[..], "no boot header"),
            (&[][..], "no boot header"),
        ] {
            let error = payload(broken).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn program_is_chosen_by_the_first_bytes() {
        for (bytes, expected) in [
            (&b"\xfd7zXZ\0..."[..], Some("xz")),
            (b"\x28\xb5\x2f\xfd", Some("zstd")),
            (b"\x1f\x8b\x08", Some("gzip")),
            (b"BZh9", None),
            (b"", None),
        ] {
            assert_eq!(program_for(bytes).ok(), expected, "{bytes:02x?}");
        }
    }
}
