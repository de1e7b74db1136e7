//! Runs the TURN server as a process of its own.
fn main() -> std::process::ExitCode {
    offhook_turn::main()
}
