//! SIPp as a carrier or a caller: scenarios are written here, in our own words, for the story that needs them.
use crate::ports;
use crate::process::Process;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where Debian keeps SIPp's recorded audio and digits.
pub const PCAPS: &str = "/usr/share/sip-tester";

#[derive(Debug)]
pub struct Sipp {
    pub process: Process,
    pub port: u16,
    folder: PathBuf,
}

/// What the carrier does with a call.
#[derive(Debug, Clone, Default)]
pub struct Carrier {
    /// Demands digest with these (user, password).
    pub digest: Option<(String, String)>,
    /// Plays this G.711 µ-law WAV as early media (183) for so long before it answers.
    pub early: Option<(PathBuf, Duration)>,
    /// Rings (180) for so long.
    pub ring: Option<Duration>,
    /// Answers and plays this WAV in a loop.
    pub answer: Option<PathBuf>,
    /// Refuses with this status line instead ("486 Busy Here").
    pub refuse: Option<String>,
    /// Hangs up by itself after so long.
    pub hang_up_after: Option<Duration>,
    /// Expects a CANCEL while it rings.
    pub expect_cancel: bool,
}

/// A caller with real G.711 and RFC 4733 keys, from the recordings that come with SIPp.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    pub to: &'static str,
    pub keys: &'static str,
}

impl Caller {
    fn scenario(&self) -> String {
        let headers = |method: &str, cseq: u32, to: &str| {
            format!(
                "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\nFrom: \"Caller\" <sip:+15557654321@[local_ip]:[local_port]>;tag=[pid]caller[call_number]\n\
                 To: <sip:{}@[remote_ip]:[remote_port]>{to}\nCall-ID: [call_id]\nCSeq: {cseq} {method}\nContact: <sip:caller@[local_ip]:[local_port]>\nMax-Forwards: 70\n",
                self.to
            )
        };
        let request = |method: &str, uri: &str, cseq: u32, to: &str, more: &str| {
            format!("<send{more}><![CDATA[\n{method} {uri} SIP/2.0\n{}", headers(method, cseq, to))
        };
        let invite = format!("sip:{}@[remote_ip]:[remote_port]", self.to);
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<scenario name=\"caller\">\n");
        xml += &request("INVITE", &invite, 1, "", " retrans=\"500\"");
        xml += "Content-Type: application/sdp\nContent-Length: [len]\n\nv=0\no=caller 1 1 IN IP[local_ip_type] [local_ip]\ns=-\nc=IN IP[media_ip_type] [media_ip]\nt=0 0\nm=audio [auto_media_port] RTP/AVP 8 101\na=rtpmap:8 PCMA/8000\na=rtpmap:101 telephone-event/8000\na=fmtp:101 0-15\n]]></send>\n";
        for progress in ["100", "180", "183"] {
            xml += &format!("<recv response=\"{progress}\" optional=\"true\"/>\n");
        }
        xml += "<recv response=\"200\" rtd=\"true\" rrs=\"true\" timeout=\"30000\"/>\n";
        xml += &request("ACK", "[next_url]", 1, "[peer_tag_param]", "");
        xml += "Content-Length: 0\n\n]]></send>\n";
        let play = |pcap: &str| format!("<nop><action><exec play_pcap_audio=\"{PCAPS}/{pcap}\"/></action></nop>\n");
        xml += &play("g711a.pcap");
        xml += &pause(Duration::from_secs(3));
        for key in self.keys.chars() {
            let name = match key {
                '*' => "star".to_owned(),
                '#' => "pound".to_owned(),
                digit => digit.to_string(),
            };
            xml += &play(&format!("dtmf_2833_{name}.pcap"));
            xml += &pause(Duration::from_millis(1_200));
        }
        xml += &pause(Duration::from_secs(3));
        xml += &request("BYE", "[next_url]", 2, "[peer_tag_param]", " retrans=\"500\"");
        xml += "Content-Length: 0\n\n]]></send>\n<recv response=\"200\"/>\n";
        xml + "</scenario>\n"
    }
}

/// An INVITE as any program on the network could send it.
pub fn plain_invite(to: &str, port: u16, media: u16) -> String {
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.9\r\ns=-\r\nc=IN IP4 127.0.0.9\r\nt=0 0\r\nm=audio {media} RTP/AVP 0\r\n"
    );
    format!(
        "INVITE sip:{to}@127.0.0.1:{port} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.9:5060;branch=z9hG4bKstranger;rport\r\nFrom: <sip:stranger@127.0.0.9>;tag=s\r\n\
         To: <sip:{to}@127.0.0.1>\r\nCall-ID: stranger@127.0.0.9\r\nCSeq: 1 INVITE\r\nContact: <sip:stranger@127.0.0.9:5060>\r\nMax-Forwards: 70\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    )
}

const VIA_ETC: &str =
    "[last_Via:]\n[last_From:]\n[last_To:];tag=[pid]SIPp[call_number]\n[last_Call-ID:]\n[last_CSeq:]\n";

fn reply(line: &str, more: &str, sdp: bool) -> String {
    let body = if sdp {
        "Content-Type: application/sdp\nContent-Length: [len]\n\nv=0\no=carrier 53655765 2353687637 IN IP[local_ip_type] [local_ip]\ns=-\nc=IN IP[media_ip_type] [media_ip]\nt=0 0\nm=audio [rtpstream_audio_port] RTP/AVP 0 101\na=rtpmap:0 PCMU/8000\na=rtpmap:101 telephone-event/8000\na=fmtp:101 0-15\na=sendrecv\n"
    } else {
        "Content-Length: 0\n"
    };
    let contact = "Contact: <sip:carrier@[local_ip]:[local_port]>\n";
    format!("<send><![CDATA[\nSIP/2.0 {line}\n{VIA_ETC}{contact}{more}{body}\n]]></send>\n")
}

fn pause(time: Duration) -> String {
    format!("<pause milliseconds=\"{}\"/>\n", time.as_millis())
}

fn play(wav: &Path, times: &str) -> String {
    format!("<nop><action><exec rtp_stream=\"{},{times},0\"/></action></nop>\n", wav.display())
}

impl Carrier {
    /// In our own BYE the parties change places.
    fn remember(&self) -> String {
        if self.hang_up_after.is_none() {
            return String::new();
        }
        let keep = |header: &str, name: &str| {
            format!(
                "<ereg regexp=\".*\" search_in=\"hdr\" header=\"{header}:\" check_it=\"false\" assign_to=\"{name}\"/>"
            )
        };
        format!("<action>{}{}</action>", keep("From", "from"), keep("To", "to"))
    }

    fn scenario(&self) -> String {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<scenario name=\"carrier\">\n");
        xml += &format!("<recv request=\"INVITE\" rrs=\"true\">{}</recv>\n", self.remember());
        if let Some((user, password)) = &self.digest {
            xml += &reply(
                "401 Unauthorized",
                "WWW-Authenticate: Digest realm=\"carrier\", nonce=\"47ebe028cda119c35d4877b383027d28da013815\", algorithm=MD5, qop=\"auth\"\n",
                false,
            );
            xml += "<recv request=\"ACK\"/>\n<recv request=\"INVITE\"><action>";
            xml += &format!("<verifyauth assign_to=\"proved\" username=\"{user}\" password=\"{password}\"/>");
            xml += "</action></recv>\n<nop hide=\"true\" next=\"ok\" test=\"proved\"/>\n";
            xml += &reply("403 Forbidden", "", false);
            xml += "<recv request=\"ACK\" next=\"end\"/>\n<label id=\"ok\"/>\n";
        }
        xml += &reply("100 Trying", "", false);
        if let Some(ring) = self.ring {
            xml += &reply("180 Ringing", "", false);
            if self.expect_cancel {
                xml += &format!("<recv request=\"CANCEL\" timeout=\"{}\"/>\n", ring.as_millis());
                xml += &reply("200 OK", "", false);
                xml += "<send><![CDATA[\nSIP/2.0 487 Request Terminated\n[last_Via:]\n[last_From:]\n[last_To:];tag=[pid]SIPp[call_number]\n[last_Call-ID:]\nCSeq: [cseq] INVITE\nContent-Length: 0\n\n]]></send>\n";
                xml += "<recv request=\"ACK\" optional=\"false\"/>\n";
                return xml + "<label id=\"end\"/>\n</scenario>\n";
            }
            xml += &pause(ring);
        }
        if let Some((wav, time)) = &self.early {
            xml += &reply("183 Session Progress", "", true);
            xml += &play(wav, "-1");
            xml += &pause(*time);
        }
        if let Some(status) = &self.refuse {
            xml += &reply(status, "", false);
            xml += "<recv request=\"ACK\"/>\n";
            return xml + "<label id=\"end\"/>\n</scenario>\n";
        }
        xml += "<send retrans=\"500\"><![CDATA[\nSIP/2.0 200 OK\n";
        xml += reply("", "", true).split_once("SIP/2.0 \n").map_or("", |(_, rest)| rest);
        xml += "<recv request=\"ACK\"/>\n";
        if let Some(wav) = &self.answer {
            xml += &play(wav, "-1");
        }
        if let Some(after) = self.hang_up_after {
            xml += &pause(after);
            xml += "<send retrans=\"500\"><![CDATA[\nBYE [next_url] SIP/2.0\nVia: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\nFrom:[$to];tag=[pid]SIPp[call_number]\nTo:[$from]\n[last_Call-ID:]\nCSeq: 2 BYE\nMax-Forwards: 70\nContent-Length: 0\n\n]]></send>\n<recv response=\"200\"/>\n";
        } else {
            xml += "<recv request=\"BYE\"/>\n";
            xml += &reply("200 OK", "", false);
        }
        xml + "<label id=\"end\"/>\n</scenario>\n"
    }
}

impl Sipp {
    /// A carrier on a port of loopback that treats each call as told.
    pub fn carrier(folder: &Path, port: u16, carrier: &Carrier) -> Self {
        Self::run(folder, port, "carrier", &carrier.scenario(), &[])
    }

    /// Somebody at the carrier's address calls one of our numbers.
    pub fn caller(folder: &Path, port: u16, sip_port: u16, caller: &Caller) -> Self {
        let to = format!("127.0.0.1:{sip_port}");
        Self::run(folder, port, "caller", &caller.scenario(), &[to])
    }

    /// Any scenario of the story's own; `more` are further arguments (the address to call for a caller).
    pub fn run(folder: &Path, port: u16, name: &str, scenario: &str, more: &[String]) -> Self {
        let file = folder.join(format!("{name}-{port}.xml"));
        std::fs::write(&file, scenario).unwrap();
        let media = ports::free_range(10);
        let mut command = Command::new("sipp");
        command.current_dir(folder).arg("-sf").arg(&file).args(more);
        command.args(["-i", "127.0.0.1", "-p", &port.to_string(), "-mi", "127.0.0.1", "-mp", &media.to_string()]);
        command.args(["-nostdin", "-trace_err", "-trace_msg", "-m", "1"]);
        let process = Process::start(&format!("sipp-{name}-{port}"), folder, &mut command);
        Self { process, port, folder: folder.to_path_buf() }
    }

    /// Waits until SIPp has played its scenario to the end, and says whether every message was as expected.
    pub fn finish(&mut self, limit: Duration) -> bool {
        self.process.finish(limit)
    }

    /// The messages that SIPp sent and received.
    pub fn messages(&self) -> String {
        let files = std::fs::read_dir(&self.folder).unwrap().map_while(Result::ok);
        let traces = files.filter(|f| f.file_name().to_string_lossy().ends_with("_messages.log"));
        traces.filter_map(|f| std::fs::read_to_string(f.path()).ok()).collect()
    }
}
