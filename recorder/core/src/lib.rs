//! offhook-recorder-core
