//! The softphone as a person uses it: by roles and words.
use crate::browser::{Browser, Options, any_role, exact_role, label, role, says, text};
use crate::sound::{self, Heard};
use crate::stack::Stack;
use crate::wait::secs;
use std::ops::{Deref, DerefMut};
use std::path::Path;

/// A signed-in page with a tone as its microphone.
pub struct Softphone {
    browser: Browser,
}

impl Deref for Softphone {
    type Target = Browser;
    fn deref(&self) -> &Browser {
        &self.browser
    }
}
impl DerefMut for Softphone {
    fn deref_mut(&mut self) -> &mut Browser {
        &mut self.browser
    }
}

impl Softphone {
    /// Opens the page as a development user ("Alice", "Bob") whose voice is a tone, without voice processing.
    #[track_caller]
    pub fn sign_in(stack: &Stack, name: &str, hz: u32) -> Self {
        // Chromium loses some milliseconds where the file begins again.
        let wav = sound::tone_file(stack.folder.path(), hz, sound::BROWSER_RATE, 120);
        let mut phone = Self::open(stack, name, Options { wav: Some(wav), listen: true, ..Options::default() });
        phone.set_processing(false);
        phone
    }

    #[track_caller]
    pub fn open(stack: &Stack, name: &str, options: Options) -> Self {
        let mut browser = Browser::launch_with(name, options);
        browser.open(&stack.url());
        browser.click(&role("button", &format!("Sign in as {name}")));
        browser.wait_for(&label("Number or extension"), secs(15));
        browser.wait_for(&text("Connected"), secs(15));
        Self { browser }
    }

    /// A browser that signed in by itself.
    pub const fn of(browser: Browser) -> Self {
        Self { browser }
    }

    /// Echo cancellation, noise suppression and gain control, as the settings panel offers them.
    #[track_caller]
    pub fn set_processing(&mut self, on: bool) {
        self.click(&role("button", "Settings"));
        self.set_checked(&label("Clean up my voice"), on);
        self.click(&role("button", "Close settings"));
    }

    #[track_caller]
    pub fn dial(&mut self, to: &str) {
        self.fill(&label("Number or extension"), to);
        self.click(&exact_role("button", "Call"));
    }

    #[track_caller]
    pub fn answer(&mut self) {
        self.wait_for(&role("button", "Answer"), secs(20));
        self.click(&role("button", "Answer"));
    }

    #[track_caller]
    pub fn wait_active(&mut self) {
        self.wait_for(&role("timer", "Duration"), secs(20));
    }

    /// Presses keys of the call's keypad.
    #[track_caller]
    pub fn press_keys(&mut self, keys: &str) {
        if self.count(&role("group", "Keypad")) == 0 {
            self.click(&role("button", "Keypad"));
        }
        for key in keys.chars() {
            let name = match key {
                '*' => "Star".to_owned(),
                '#' => "Hash".to_owned(),
                digit => digit.to_string(),
            };
            self.click(&exact_role("button", &name));
        }
    }

    /// Waits for the sentence with which a call ended, where assistive technology reads it at once.
    #[track_caller]
    pub fn wait_ended(&mut self, place: &str, sentence: &str) {
        self.wait_for(&says(place, sentence), secs(40));
        assert_eq!(self.count(&role("button", "Hang up")), 0, "the call is still shown");
    }

    #[track_caller]
    pub fn hang_up(&mut self) {
        self.click(&role("button", "Hang up"));
    }

    /// Waits until the page says a sentence (an end, an error, a state).
    #[track_caller]
    pub fn wait_says(&mut self, sentence: &str) {
        self.wait_for(&text(sentence), secs(40));
    }

    #[track_caller]
    pub fn wait_idle(&mut self) {
        self.wait_gone(&role("button", "Hang up"), secs(20));
    }

    /// The sound of the next seconds, from the first frame with `hz` on (at most `within_s` later).
    #[track_caller]
    pub fn hear_tone(&mut self, hz: u32, within_s: f64, seconds: u64) -> Heard {
        let heard = self.listen(seconds + within_s.ceil() as u64);
        heard.from_onset(hz, within_s)
    }

    /// A picture for a person to look at, when `OFFHOOK_PICTURES` names a folder.
    pub fn picture(&mut self, name: &str) {
        if let Some(folder) = std::env::var_os("OFFHOOK_PICTURES") {
            self.screenshot(&Path::new(&folder).join(format!("{name}.png")));
        }
    }

    #[track_caller]
    pub fn alert(&mut self) -> String {
        self.text_of(&any_role("alert"))
    }
}
