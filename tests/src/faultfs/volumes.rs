//! All volumes of a device, by name.

use super::limits::VOLUMES_MAX;
use super::volume::Volume;
use super::weather::{Counts, Nature};
use crate::sim::draws::Draws;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};

/// A volume that several threads share.
pub struct Shared {
    name: String,
    index: u64,
    volume: Mutex<Volume>,
}

impl Shared {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its place among the volumes, from 0.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The volume, for this thread alone.
    pub fn lock(&self) -> MutexGuard<'_, Volume> {
        self.volume.lock().expect("no code panics while it holds this lock")
    }
}

/// Why a volume could not be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum VolumesError {
    /// There is none of that name.
    #[error("there is no volume {name:?}")]
    Unknown {
        /// The name.
        name: String,
    },
    /// It cannot have this name.
    #[error("a volume cannot be called {name:?}: there is one, or it is not a file name")]
    Name {
        /// The name.
        name: String,
    },
    /// There are as many as there may be.
    #[error("there are {VOLUMES_MAX} volumes already")]
    TooMany,
}

/// See the module. Volumes are never removed.
pub struct Volumes {
    draws: Draws,
    all: RwLock<Vec<Arc<Shared>>>,
}

impl Volumes {
    /// None yet. Each volume's faults follow from the seed and its name.
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self { draws: Draws::new(seed), all: RwLock::default() })
    }

    /// All of them, in the order they were made.
    pub fn all(&self) -> Vec<Arc<Shared>> {
        self.all.read().expect("no code panics while it holds this lock").clone()
    }

    /// A new one.
    ///
    /// # Errors
    /// See [`VolumesError`].
    pub fn add(&self, name: &str, nature: Nature) -> Result<Arc<Shared>, VolumesError> {
        let mut all = self.all.write().expect("no code panics while it holds this lock");
        let is_file_name = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']);
        if !is_file_name || all.iter().any(|other| other.name == name) {
            return Err(VolumesError::Name { name: name.to_owned() });
        }
        if all.len() == VOLUMES_MAX {
            return Err(VolumesError::TooMany);
        }
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            index: all.len() as u64,
            volume: Mutex::new(Volume::new(nature, self.draws.split(name))),
        });
        all.push(shared.clone());
        Ok(shared)
    }

    /// The one of this name.
    ///
    /// # Errors
    /// [`VolumesError::Unknown`].
    pub fn get(&self, name: &str) -> Result<Arc<Shared>, VolumesError> {
        let all = self.all.read().expect("no code panics while it holds this lock");
        let found = all.iter().find(|other| other.name == name).cloned();
        found.ok_or_else(|| VolumesError::Unknown { name: name.to_owned() })
    }

    /// What was done on all of them.
    pub fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for shared in self.all() {
            sum += shared.lock().counts();
        }
        sum
    }

    /// All of them by name, with what was done on each.
    pub fn counts_each(&self) -> BTreeMap<String, Counts> {
        self.all().iter().map(|shared| (shared.name.clone(), shared.lock().counts())).collect()
    }
}
