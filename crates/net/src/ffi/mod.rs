//! The system calls. Each function's SAFETY comment says why its pointers hold; everything outside is safe code.
pub mod arrays;
pub mod epoll;
pub mod options;
