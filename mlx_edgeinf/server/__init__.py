"""An OpenAI-compatible server: any OpenAI client asks about long documents on this machine.

A request's way through this room: `guard` lets it in, `app` has the addresses, `wire` says what may be
asked and what answers look like. `shelf` keeps uploads in the library, `memories` reads each document
once, `jobs` lets requests take turns, `answers` writes. `errors` is what a refusal looks like, `serve`
opens the port.
"""
