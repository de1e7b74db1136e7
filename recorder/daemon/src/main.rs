//! Runs the recorder as a process of its own.
fn main() -> std::process::ExitCode {
    offhook_runtime::main(&offhook_recorder::RECORDER)
}
