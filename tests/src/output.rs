//! `println!` and `eprintln!` as xtask has them: unlike the standard ones they do not panic when nobody takes what is
//! printed (a closed pipe, a full disk). A playground is to be cleared away all the same, and a benchmark's files written.

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
