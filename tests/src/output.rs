//! `println!` and `eprintln!` that do not panic when printing fails (a closed pipe, a full disk),
//! as the standard ones do: a playground has to be removed all the same, and a benchmark's files to
//! be written.

#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => {{
        use ::std::io::Write as _;
        let _ = ::std::writeln!(::std::io::stdout(), $($argument)*);
    }};
}

#[macro_export]
macro_rules! eprintln {
    ($($argument:tt)*) => {{
        use ::std::io::Write as _;
        let _ = ::std::writeln!(::std::io::stderr(), $($argument)*);
    }};
}
