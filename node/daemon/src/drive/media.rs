//! Writes and flushes, tried again while the device has no place for them.

use std::time::Duration;
use strongroom_env::Clock;
use strongroom_io::{AlignedBuffer, Class, Device, DeviceError, Operation};

/// The pause before an operation is tried again that the device had no place for.
const BUSY_PAUSE: Duration = Duration::from_millis(1);

/// One write.
pub(super) struct Write {
    /// Where on the device.
    pub(super) offset_bytes: u64,
    /// What.
    pub(super) buffer: AlignedBuffer,
}

/// Writes.
pub(super) async fn write(device: &dyn Device, clock: &dyn Clock, write: Write) -> Result<(), DeviceError> {
    let Write { offset_bytes, mut buffer } = write;
    loop {
        let operation = Operation::Write { offset_bytes, buffer };
        let completion = device.submit(operation, Class::Append).await;
        match (completion.result, completion.buffer) {
            (Err(DeviceError::Busy { .. }), Some(back)) => buffer = back,
            (result, _) => return result,
        }
        clock.sleep(BUSY_PAUSE).await;
    }
}

/// Makes durable what was written before. One that failed says of nothing written before that it is durable, and a later one does not either:
/// whoever flushes beside others takes their writes with it.
pub(super) async fn flush(device: &dyn Device, clock: &dyn Clock) -> Result<(), DeviceError> {
    loop {
        match device.submit(Operation::Flush, Class::Append).await.result {
            Err(DeviceError::Busy { .. }) => clock.sleep(BUSY_PAUSE).await,
            result => return result,
        }
    }
}
