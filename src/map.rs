//! Maps that a `static` can hold: without random keys, because no other program chooses the keys.
//! Their code is smaller than that of B-trees, which is copied for every use.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

type Hasher = BuildHasherDefault<DefaultHasher>;

pub(crate) type Map<K, V> = HashMap<K, V, Hasher>;
#[cfg(all(target_os = "linux", test))]
pub(crate) type Set<K> = std::collections::HashSet<K, Hasher>;

/// For the initial value of a `static`.
pub(crate) const HASHER: Hasher = Hasher::new();
