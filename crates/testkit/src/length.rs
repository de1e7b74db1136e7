//! Long proofs are one code with two lengths (DESIGN.md §8): `make test` runs the short one, `make soak` the long one.

/// `long` under `OFFHOOK_LONG=1`, as `make soak` sets it; else `short`.
pub fn length<T>(short: T, long: T) -> T {
    if std::env::var_os("OFFHOOK_LONG").is_some_and(|value| value == "1") { long } else { short }
}
