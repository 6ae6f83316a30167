//! The node that a command is about, and how its answer is shown: the same for all of them.

use crate::control::client::ControlClient;
use clap::Args;
use serde::Serialize;
use std::path::PathBuf;

/// A node and a form.
#[derive(Args)]
pub(super) struct Target {
    /// The node's control socket
    #[arg(long, value_name = "SOCKET", default_value = "control.sock", global = true)]
    control: PathBuf,
    /// For machines
    #[arg(long, global = true)]
    pub(super) json: bool,
}

impl Target {
    pub(super) fn client(&self) -> ControlClient {
        ControlClient::new(self.control.clone())
    }

    /// Prints it as JSON, or has it shown to people.
    pub(super) fn print<T: Serialize>(&self, answer: &T, show: impl FnOnce(&T)) -> anyhow::Result<()> {
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(answer)?),
            false => show(answer),
        }
        Ok(())
    }
}
