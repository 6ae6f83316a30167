//! Which backend works the drives: the ring where it runs, else threads.

use crate::blocking::BlockingDevice;
use crate::device::Device;
use crate::open::Drive;
use crate::uring::{Driver, UringError};
use std::io;
use std::sync::Arc;

/// What works the drives of one core.
pub enum Backend {
    /// A ring on this thread.
    Uring(Driver),
    /// Threads of each drive.
    Blocking,
}

/// Why a drive could not be put to work.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The ring refused it.
    #[error(transparent)]
    Uring(#[from] UringError),
    /// The system gave no thread.
    #[error("no thread for the drive")]
    Thread(#[source] io::Error),
}

impl Backend {
    /// The ring where it works, else threads, with one line of warning. Called on the runtime's thread,
    /// inside a `LocalSet` (`tokio_uring::start` makes one): the ring stays on that thread.
    pub fn choose() -> Self {
        match Driver::start() {
            Ok(driver) => Self::Uring(driver),
            Err(error) => {
                let reason: &dyn std::error::Error = &error;
                tracing::warn!(
                    reason,
                    "io_uring does not work here: drives are worked by blocking threads, for several times the CPU"
                );
                Self::Blocking
            }
        }
    }

    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Uring(_) => "io_uring",
            Self::Blocking => "blocking threads",
        }
    }

    /// Puts a drive to work.
    ///
    /// # Errors
    /// The drive is given up then.
    pub async fn attach(&self, drive: Drive) -> Result<Arc<dyn Device>, BackendError> {
        Ok(match self {
            Self::Uring(driver) => Arc::new(driver.attach(drive).await?),
            Self::Blocking => Arc::new(BlockingDevice::start(drive).map_err(BackendError::Thread)?),
        })
    }
}
