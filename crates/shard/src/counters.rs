//! Plain counters of one shard, read once a tick by the daemon.

/// Defines `Counters`, a field for each name, all of them `u64`.
#[macro_export]
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64),+ }

        impl Counters {
            /// Names and values, for export.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),+].into_iter()
            }
        }
    };
}

#[cfg(test)]
mod tests {
    counters! {
        /// Of one kind.
        taken,
        refused,
    }

    #[test]
    fn counters_are_read_by_name() {
        let counters = Counters { taken: 3, refused: 1 };
        assert_eq!(counters.each().collect::<Vec<_>>(), [("taken", 3), ("refused", 1)]);
    }
}
