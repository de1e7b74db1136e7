//! One process, one daemon.
fn main() -> std::process::ExitCode {
    offhook_runtime::main(&offhook_control::CONTROL)
}
