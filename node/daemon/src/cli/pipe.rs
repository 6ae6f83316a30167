//! What becomes of a command whose output nobody reads any more, as in `strongroom cluster | head`.

/// What shells make of a program that was ended by SIGPIPE.
pub const EXIT_UNREAD: u8 = 128 + 13;

/// From here on the program ends without a word where it prints and nobody reads any more. All else that panics says so as before.
pub(super) fn end_with_the_reader() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str().is_some_and(is_of_a_closed_pipe) {
            std::process::exit(EXIT_UNREAD.into());
        }
        before(panic);
    }));
}

/// As the standard library words it; a process test sees that it still does (`jobs::commands_for_people`).
fn is_of_a_closed_pipe(message: &str) -> bool {
    message.starts_with("failed printing to stdout") && message.contains("Broken pipe")
}
