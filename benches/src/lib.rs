//! offhook-benches
