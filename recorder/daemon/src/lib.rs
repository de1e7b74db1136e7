//! offhook-recorder
