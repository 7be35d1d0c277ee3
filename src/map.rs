//! Maps that a `static` can hold: without random keys, which nothing here needs, as no stranger chooses these keys.
//! Their code is smaller than that of B-trees, whose every use brings a copy of it.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, DefaultHasher};

type Hasher = BuildHasherDefault<DefaultHasher>;

pub(crate) type Map<K, V> = HashMap<K, V, Hasher>;
pub(crate) type Set<K> = HashSet<K, Hasher>;

/// For the initial value of a `static`.
pub(crate) const HASHER: Hasher = Hasher::new();
