"""A BitTorrent client that knows no other way to find peers than its tracker: libtorrent without DHT, local discovery and
peer exchange.

    libtorrent_peer.py create FILE ANNOUNCE-URL TORRENT     makes a torrent of a file
    libtorrent_peer.py share TORRENT DIRECTORY ADDRESS:PORT  downloads it, or seeds it if it is there

`share` prints a line when the tracker has answered and one when everything is there, and goes on until it is told to stop.
"""

import os
import signal
import sys

import libtorrent as lt


def create(file, url, torrent):
    storage = lt.file_storage()
    lt.add_files(storage, file)
    # The other clients know BitTorrent version 1 only.
    maker = lt.create_torrent(storage, piece_size=64 * 1024, flags=lt.create_torrent.v1_only)
    maker.add_tracker(url)
    lt.set_piece_hashes(maker, os.path.dirname(file))
    with open(torrent, "wb") as out:
        out.write(lt.bencode(maker.generate()))


def share(torrent, directory, listen):
    settings = {
        "listen_interfaces": listen,
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "alert_mask": lt.alert.category_t.all_categories,
    }
    # No flags: without the default plug-ins there is no peer exchange.
    session = lt.session(settings, flags=0)
    handle = session.add_torrent({"ti": lt.torrent_info(torrent), "save_path": directory})

    def stop(*_):
        session.remove_torrent(handle)
        sys.exit(0)

    signal.signal(signal.SIGTERM, stop)
    announced = complete = False
    while True:
        session.wait_for_alert(200)
        for alert in session.pop_alerts():
            if isinstance(alert, (lt.tracker_error_alert, lt.tracker_warning_alert, lt.peer_error_alert)):
                print(alert, flush=True)
            if isinstance(alert, lt.tracker_reply_alert) and not announced:
                announced = True
                print("announced", flush=True)
        if not complete and handle.status().is_seeding:
            complete = True
            print("complete", flush=True)


{"create": create, "share": share}[sys.argv[1]](*sys.argv[2:])
