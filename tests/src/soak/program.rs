//! Where tests find the program that is shipped.
//!
//! This crate turns on deliberate faults in the core, so a program that was built together with it is not the one that is shipped. It is
//! built by itself here, unless the environment names one.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Names a program that is there already.
pub const VARIABLE: &str = "STRONGROOM_PROGRAM";

/// The program, built if nobody did yet.
///
/// # Errors
/// It does not build.
pub fn shipped() -> Result<PathBuf, String> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND.get_or_init(find).clone()
}

fn find() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os(VARIABLE) {
        return Ok(PathBuf::from(path));
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "build",
            "-p",
            "strongroom",
            "--bin",
            "strongroom",
            "--message-format",
            "json-render-diagnostics",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo build -p strongroom: {}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let mut executables =
        messages.filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)));
    let found = executables.find(|path| path.file_stem().is_some_and(|stem| stem == "strongroom"));
    found.ok_or_else(|| String::from("cargo build -p strongroom named no executable"))
}
