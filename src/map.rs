//! Maps that a `static` can hold: without random keys, because a collision costs only time.
//! Their code is smaller than that of B-trees, which is copied for every use.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher};

use rustc_hash::FxBuildHasher;

/// For numbers.
pub(crate) type Map<K, V> = HashMap<K, V, FxBuildHasher>;
#[cfg(all(target_os = "linux", test))]
pub(crate) type Set<K> = std::collections::HashSet<K, FxBuildHasher>;

/// For paths, which a program may take from its users: it has no simple collisions.
pub(crate) type PathHasher = BuildHasherDefault<DefaultHasher>;

/// For the initial value of a `static`.
pub(crate) const HASHER: FxBuildHasher = FxBuildHasher;
