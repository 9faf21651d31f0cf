//! The pages in a real browser: Chromium without a window. `TRACKER_TESTS_PICTURES` names a directory
//! for pictures of what was seen.

#[path = "page/browser.rs"]
mod browser;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use browser::Browser;
use std::{
    env, fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};
use tracker_tests::{
    bep15::Announce,
    client::UdpClient,
    namespace::Namespace,
    supervised::{Ending, Printing, Supervised},
    temporary::Directory,
    tracker::{Tracker, binary},
};

const UDP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6969);

/// A telephone and a desk.
const SIZES: [(u32, u32); 2] = [(360, 780), (1440, 900)];

fn announce(namespace: &Namespace) {
    let mut client = UdpClient::connected(namespace, ([127, 0, 0, 1], 0).into(), UDP).expect("an id");
    for torrent in 1..=40_u8 {
        for port in 1..=u16::from(torrent % 7) + 1 {
            let left = u64::from(port % 3);
            client.announce(&Announce { left, ..Announce::new([torrent; 20], port) }).expect("an answer");
        }
    }
    for _ in 0..20 {
        client.connect().expect("an answer");
    }
    client.scrape(&[[1; 20]]).expect("an answer");
    client.announce(&Announce::new([1; 20], 0)).expect_err("port 0 is refused");
}

fn keep(browser: &mut Browser, name: &str) {
    if let Some(directory) = env::var_os("TRACKER_TESTS_PICTURES") {
        let picture = BASE64_STANDARD.decode(browser.picture(true).expect("a picture")).expect("base64");
        fs::write(Path::new(&directory).join(format!("{name}.png")), picture).expect("writable");
    }
}

/// That nothing sticks out to the side, and every word can be read: contrast as WCAG's level AA wants
/// it, of all that has text.
const LEGIBLE: &str = r#"(() => {
  const wrong = [];
  const wide = document.documentElement.scrollWidth;
  if (wide > innerWidth) wrong.push(`${wide} pixels wide of ${innerWidth}`);
  const parse = colour => colour.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => { const f = [r, g, b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2]; };
  const paper = light(parse(getComputedStyle(document.documentElement).backgroundColor));
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || node.closest("script, style, noscript, .hidden, [hidden]")) continue;
    const style = getComputedStyle(node);
    const ink = light(parse(node instanceof SVGElement ? style.fill : style.color));
    const contrast = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    if (contrast < 4.5) wrong.push(`${contrast.toFixed(2)}: ${walker.currentNode.textContent}`);
  }
  return wrong.join("\n");
})()"#;

/// What the keyboard has to reach: all that a pointer can use.
const USABLE: &str =
    "[...document.querySelectorAll('a[href], button, [tabindex=\"0\"]')].filter(e => e.checkVisibility()).length";

fn reached_by_keyboard(browser: &mut Browser) -> usize {
    browser.value("document.body.focus(), document.activeElement.blur(), window.seen = new Set(), true").expect("done");
    let usable = browser.value(USABLE).expect("a number").as_u64().expect("a number") as usize;
    for _ in 0..usable + 2 {
        browser.press("Tab").expect("pressed");
        let visible = browser
            .value("(e => (e !== document.body && seen.add(e), e === document.body || getComputedStyle(e).outlineStyle !== 'none'))(document.activeElement)")
            .expect("a focus");
        assert_eq!(visible, true, "the focus is seen");
    }
    assert!(usable > 1, "{usable}");
    let seen = browser.value("[...seen].filter(e => e.matches('a[href], button, [tabindex=\"0\"]')).length");
    assert_eq!(seen.expect("a number").as_u64(), Some(usable as u64));
    usable
}

#[test]
fn the_operators_page_is_drawn_and_follows_the_tracker() {
    let namespace = Namespace::new().expect("a namespace");
    let tracker = Tracker::start(&namespace, &["--max-torrents", "1000", "--max-peers", "10000"]).expect("it runs");
    announce(&namespace);
    let mut browser = Browser::start(&namespace, "operator").expect("a browser");
    for (size, scheme) in SIZES.into_iter().flat_map(|size| [(size, "light"), (size, "dark")]) {
        browser.look(size, scheme).expect("a window");
        browser.go("http://127.0.0.1:6969/").expect("a page");
        browser.wait_for("document.getElementById('state')?.className === 'live'").expect("events");
        browser.wait_for("document.querySelectorAll('#c-requests polyline').length > 1").expect("a curve");
        browser.wait_for("document.querySelectorAll('#top tbody tr').length === 10").expect("torrents");
        browser.value("window.before = figures.time, true").expect("figures");
        announce(&namespace);
        browser
            .wait_for("figures.time > before + 1 && Number(document.getElementById('rate').textContent) > 0")
            .expect("updates");
        assert_eq!(browser.value(LEGIBLE).expect("a text"), "", "{size:?} {scheme}");
        keep(&mut browser, &format!("operator-{}-{scheme}", size.0));
        let headings = browser.value("[...document.querySelectorAll('h1, h2')].length").expect("a number");
        assert!(headings.as_u64() > Some(8), "{headings}");
        reached_by_keyboard(&mut browser);
    }
    // The switch of the theme, and a curve read by keyboard.
    browser.value("document.getElementById('theme').focus(), true").expect("a button");
    browser.press("Enter").expect("pressed");
    browser.wait_for("document.documentElement.dataset.theme === 'light'").expect("light");
    assert_eq!(browser.value(LEGIBLE).expect("a text"), "");
    browser.value("document.getElementById('c-peers').focus(), true").expect("a curve");
    browser.press("ArrowLeft").expect("pressed");
    browser
        .wait_for("/^\\d\\d:\\d\\d.* IPv4 /.test(document.getElementById('c-peers').getAttribute('aria-label'))")
        .expect("read");
    browser.value("document.querySelector('[data-span=day]').click(), true").expect("clicked");
    browser.wait_for("span === 'day' && document.querySelectorAll('#c-requests text').length > 2").expect("a day");
    assert_eq!(browser.errors, Vec::<String>::new());
    // The page says so when the tracker ends.
    assert!(tracker.stop().expect("it runs").success());
    browser.wait_for("document.getElementById('state').className === 'lost'").expect("said");
}

#[test]
fn strangers_see_how_to_announce_and_the_operator_gives_a_token() {
    let (namespace, directory) = (Namespace::new().expect("a namespace"), Directory::new("page-token"));
    let token = directory.path("token");
    fs::write(&token, "0123456789abcdef0123\n").expect("writable");
    let token = token.to_str().expect("a name");
    let mut command = namespace.command(binary().expect("a tracker"));
    command.args(["run", "--pin-path", "off", "--admin-from", "none", "--admin-token-file", token]);
    let mut tracker = Supervised::start(command, Printing::Kept, Ending::AT_ONCE).expect("it runs");
    tracker
        .wait_until_ready(std::time::Duration::from_secs(30), || {
            UdpClient::connected(&namespace, ([127, 0, 0, 1], 0).into(), UDP).map(drop)
        })
        .expect("it answers");
    announce(&namespace);
    let mut browser = Browser::start(&namespace, "stranger").expect("a browser");
    for (size, scheme) in SIZES.into_iter().flat_map(|size| [(size, "light"), (size, "dark")]) {
        browser.look(size, scheme).expect("a window");
        browser.go("http://127.0.0.1:6969/").expect("a page");
        browser.wait_for("document.querySelectorAll('li button').length === 2").expect("buttons");
        assert_eq!(
            browser.value("document.querySelector('code').textContent").expect("a text"),
            "udp://127.0.0.1:6969/announce"
        );
        assert_eq!(browser.value(LEGIBLE).expect("a text"), "", "{size:?} {scheme}");
        keep(&mut browser, &format!("public-{}-{scheme}", size.0));
        reached_by_keyboard(&mut browser);
    }
    assert_eq!(browser.errors, Vec::<String>::new());
    browser.go("http://any:0123456789abcdef0123@127.0.0.1:6969/operator").expect("a page");
    browser
        .wait_for("document.getElementById('state')?.className === 'live' && figures.torrents === 40")
        .expect("events");
    assert_eq!(browser.errors, Vec::<String>::new());
    browser.go("http://any:0123456789abcdef0124@127.0.0.1:6969/stats").ok();
    browser.wait_for("!document.body.innerText.includes('40')").expect("nothing is told");
}
