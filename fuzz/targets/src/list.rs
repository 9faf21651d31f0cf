//! Files with lists of torrents, compared with a slow reader of them.

use tracker::admission::file::parse;

/// The whole input is a file.
///
/// # Panics
/// When it is read in another way than by the slow reader.
pub fn run(bytes: &[u8]) {
    let mut read = Vec::new();
    let result = parse(bytes, &mut read);
    let (expected, wrong) = slow(bytes);
    assert_eq!(read, expected, "{:?}", String::from_utf8_lossy(bytes));
    match (result, wrong) {
        (Ok(()), None) => {}
        (Err(error), Some(line)) => {
            let error = error.to_string();
            assert!(error.contains(&format!("line {line} ")) && error.len() < 1000, "line {line}: {error}");
        }
        (result, wrong) => panic!("{result:?} instead of {wrong:?}: {:?}", String::from_utf8_lossy(bytes)),
    }
}

/// The torrents up to the first wrong line, and its number.
fn slow(bytes: &[u8]) -> (Vec<[u8; 20]>, Option<usize>) {
    let mut torrents = Vec::new();
    let mut lines = vec![Vec::new()];
    for byte in bytes {
        if *byte == b'\n' { lines.push(Vec::new()) } else { lines.last_mut().expect("one").push(*byte) }
    }
    let is_space = |byte: &u8| b" \t\r\x0c".contains(byte);
    for (number, line) in lines.iter().enumerate() {
        let begun: Vec<u8> = line.iter().copied().skip_while(is_space).collect();
        let word: Vec<u8> = begun.into_iter().take_while(|byte| !is_space(byte)).collect();
        if word.is_empty() || word[0] == b'#' {
            continue;
        }
        let value = |digit: &u8| char::from(*digit).to_digit(16).filter(|_| digit.is_ascii());
        let digits: Option<Vec<u32>> = word.iter().map(value).collect();
        let Some(digits) = digits.filter(|digits| digits.len() == 40 || digits.len() == 64) else {
            return (torrents, Some(number + 1));
        };
        let mut torrent = [0; 20];
        for (at, byte) in torrent.iter_mut().enumerate() {
            *byte = (digits[2 * at] * 16 + digits[2 * at + 1]) as u8;
        }
        torrents.push(torrent);
    }
    (torrents, None)
}

/// Inputs to begin with.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    const HASH: &str = "0123456789abcdefABCDEF0123456789abcdef01";
    [
        format!("{HASH}\n{HASH} name\r\n# comment\n\n  {HASH}\t# more\n"),
        format!("{HASH}0123456789abcdefABCDEF01\n"),
        format!("{HASH}\n{HASH}0\n"),
        format!("{}g", &HASH[..39]),
        format!("\x0b{HASH}\n\x0c{HASH}\x00\n#\n"),
    ]
    .map(String::into_bytes)
    .into()
}
