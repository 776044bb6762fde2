"""A small client of sfumato's job server for phone and desk: a photo, rough strokes, words, a run.

    python main.py [--port 8550]        # in a browser; with FLET_APP=1 in a window of its own

SFUMATO_SERVER and SFUMATO_TOKEN fill in the login.
"""

from __future__ import annotations

import argparse
import base64
import os
from typing import Any

import flet as ft
import flet.canvas as cv
from PIL import Image

from server import OPEN, RefusedError, Server
from strokes import Stroke, encoded, opened, painted

SIDE, WIDEST = 512, 480.0  # pixels of a new sheet; of the painting on the screen at most
HERE = os.environ.get("SFUMATO_SERVER", "http://127.0.0.1:8642")
COLOURS = {
    "black": "#1e1e1e", "white": "#ffffff", "red": "#cf2e2e", "orange": "#e8871e",
    "yellow": "#f2c230", "green": "#3e8a44", "blue": "#2b62b8", "brown": "#7a4b2a",
}  # fmt: skip


class Painting:
    """A picture or a white sheet, strokes over it, and how both are shown."""

    def __init__(self, widest: float) -> None:
        self.base, self.strokes = Image.new("RGB", (SIDE, SIDE), "white"), list[Stroke]()
        self.colour, self.brush, self.widest = COLOURS["red"], 0.05, widest
        fill = ft.BoxFit.FILL
        self.under = ft.Image(src=encoded(self.base), fit=fill, semantics_label="sheet")
        self.over = ft.Image(src=b"", visible=False, fit=fill, gapless_playback=True)
        self.canvas = cv.Canvas(shapes=[])
        self.touch = ft.GestureDetector(
            self.canvas, drag_interval=10, on_pan_start=self.begin, on_pan_update=self.go_on
        )
        self.view = ft.Stack([self.under, self.touch, self.over])
        self.view.clip_behavior = ft.ClipBehavior.HARD_EDGE
        self.fit()

    def fit(self) -> None:
        width = min(self.widest, self.widest * self.base.width / self.base.height)
        for control in (self.view, self.under, self.over, self.canvas, self.touch):
            control.width, control.height = width, width * self.base.height / self.base.width

    def share(self, at: Any) -> tuple[float, float]:
        return at.x / self.view.width, at.y / self.view.height

    def begin(self, event: Any) -> None:
        at = event.local_position
        self.strokes.append(Stroke(self.colour, self.brush, [self.share(at)]))
        paint = ft.Paint(
            color=self.colour, stroke_width=self.brush * self.view.width,
            style=ft.PaintingStyle.STROKE, stroke_cap=ft.StrokeCap.ROUND,
            stroke_join=ft.StrokeJoin.ROUND,
        )  # fmt: skip
        dot = [cv.Path.MoveTo(at.x, at.y), cv.Path.LineTo(at.x + 0.01, at.y)]
        self.canvas.shapes.append(cv.Path(dot, paint))
        self.canvas.update()

    def go_on(self, event: Any) -> None:
        at = event.local_position
        self.strokes[-1].points.append(self.share(at))
        self.canvas.shapes[-1].elements.append(cv.Path.LineTo(at.x, at.y))
        self.canvas.update()

    def undo(self, _: Any) -> None:
        if self.strokes:
            self.strokes.pop()
            self.canvas.shapes.pop()
            self.canvas.update()

    def take(self, data: bytes) -> None:
        """A picture in the place of what was painted."""
        self.base = opened(data)
        self.strokes.clear()
        self.canvas.shapes.clear()
        self.under.src = encoded(self.base)
        self.show(None)
        self.fit()

    def show(self, data: bytes | None) -> None:
        """A preview or a result over the painting, or the painting alone."""
        self.over.visible, self.over.src = data is not None, data or b""


class App:
    """The pages of the app, over one server."""

    def __init__(self, page: ft.Page) -> None:
        self.page, self.server, self.job, self.result = page, Server(HERE, ""), "", b""
        page.title, page.padding, page.scroll = "sfumato", 16, ft.ScrollMode.AUTO
        page.theme = page.dark_theme = ft.Theme(color_scheme_seed="#a04526")
        page.horizontal_alignment = ft.CrossAxisAlignment.CENTER
        self.width = min(WIDEST, (page.width or 400) - 32)
        self.url = ft.TextField(label="Server", value=HERE)
        self.token = ft.TextField(label="Token", value=os.environ.get("SFUMATO_TOKEN", ""))
        self.token.password, self.token.on_submit = True, self.login
        self.painting, self.files = Painting(self.width), ft.FilePicker()
        self.words = ft.TextField(label="Words", hint_text="red apple", width=self.width)
        self.level, self.said = ft.Text(size=12), ft.Text("", size=12)
        self.t0 = ft.Slider(0.5, min=0.05, max=1, on_change=self.levelled, width=self.width)
        self.bar = ft.ProgressBar(0, visible=False, width=self.width)
        self.go = ft.FilledButton("Run", icon=ft.Icons.PLAY_ARROW, on_click=self.run)
        self.halt = ft.OutlinedButton("Stop", icon=ft.Icons.STOP, on_click=self.stop)
        self.accept = ft.FilledTonalButton("Accept", ft.Icons.CHECK, on_click=self.decide)
        self.discard = ft.TextButton("Discard", on_click=self.decide)
        self.search = ft.TextField(label="Search words", on_submit=self.look, width=self.width)
        self.wall = ft.GridView(max_extent=132, spacing=6, run_spacing=6, width=self.width)
        self.wall.height = 520

    def say(self, sentence: str) -> None:
        text = ft.Text(sentence[:1].upper() + sentence[1:])
        self.page.show_dialog(ft.SnackBar(text))

    def show(self, *controls: Any) -> None:
        self.page.controls[:] = controls
        self.page.update()

    def start(self) -> None:
        self.page.navigation_bar = None
        title = ft.Text("sfumato", size=28, weight=ft.FontWeight.W_600)
        about = ft.Text("Paint roughly, say what it is, watch the picture appear.")
        enter = ft.FilledButton("Log in", on_click=self.login)
        fields = ft.Column([title, about, self.url, self.token, enter], spacing=16)
        self.show(ft.Container(fields, width=self.width, padding=24))

    async def login(self, _: Any) -> None:
        server = Server(self.url.value or "", self.token.value or "")
        try:
            await server.login()
        except RefusedError as error:
            self.say(str(error))
            return
        self.server = server
        signs = {"Paint": ft.Icons.BRUSH, "Gallery": ft.Icons.GRID_VIEW, "Log out": ft.Icons.LOGOUT}
        places = [ft.NavigationBarDestination(icon=i, label=name) for name, i in signs.items()]
        self.page.navigation_bar = ft.NavigationBar(places, on_change=self.turned)
        self.paint()

    async def turned(self, event: Any) -> None:
        if event.control.selected_index == 0:
            self.paint()
        elif event.control.selected_index == 1:
            self.show(self.search, self.wall)
            await self.look(None)
        else:
            self.start()

    def paint(self) -> None:
        line = ft.Border.all(1, ft.Colors.OUTLINE_VARIANT)
        inks = [
            ft.Container(width=32, height=32, border_radius=16, bgcolor=colour, border=line,
                         tooltip=name, data=colour, on_click=self.inked)
            for name, colour in COLOURS.items()
        ]  # fmt: skip
        tools = [
            ft.IconButton(ft.Icons.ADD_A_PHOTO, tooltip="Photo", on_click=self.photo),
            ft.IconButton(ft.Icons.UNDO, tooltip="Undo", on_click=self.painting.undo),
            ft.Slider(self.painting.brush, min=0.01, max=0.2, on_change=self.brushed, width=140),
        ]
        acts = [self.go, self.halt, self.accept, self.discard]
        middle = ft.MainAxisAlignment.CENTER
        self.levelled(None)
        self.busy(at_work=False)
        sheet = ft.Container(self.painting.view, border=line)
        self.show(
            sheet, ft.Row(inks, alignment=middle, wrap=True),
            ft.Row(tools, alignment=middle), self.words, self.level, self.t0, self.bar, self.said,
            ft.Row(acts, alignment=middle),
        )  # fmt: skip

    def inked(self, event: Any) -> None:
        self.painting.colour = event.control.data

    def brushed(self, event: Any) -> None:
        self.painting.brush = event.control.value

    def levelled(self, _: Any) -> None:
        t0 = self.t0.value or 0.5
        ends = "the painting" if t0 < 0.4 else "the words" if t0 > 0.7 else "both alike"
        self.level.value = f"t0 = {t0:.2f}: it follows {ends}"
        self.page.update()

    async def photo(self, _: Any) -> None:
        files = await self.files.pick_files(file_type=ft.FilePickerFileType.IMAGE, with_data=True)
        for file in files[:1]:
            self.use(file.bytes or b"")

    def use(self, data: bytes) -> None:
        try:
            self.painting.take(data)
        except (OSError, ValueError, Image.DecompressionBombError):
            self.say("that file is no picture that can be read; take a PNG, JPEG or WebP")
        self.page.update()

    def busy(self, *, at_work: bool, proposed: bool = False) -> None:
        self.go.visible, self.halt.visible, self.bar.visible = not at_work, at_work, at_work
        self.accept.visible = self.discard.visible = proposed
        self.bar.value, self.said.value = None if at_work else 0, ""
        if not at_work and not proposed:
            self.painting.show(None)
        self.page.update()

    async def run(self, _: Any) -> None:
        self.busy(at_work=True)
        try:
            painting = encoded(painted(self.painting.base, self.painting.strokes))
            job = await self.server.submit(painting, self.words.value or "", self.t0.value or 0.5)
            self.job = job.id
            async for event in self.server.events(job.id):
                self.happened(event)
            await self.ended()
        except RefusedError as error:
            self.busy(at_work=False)
            self.say(str(error))

    def happened(self, event: dict[str, Any]) -> None:
        progress = event.get("progress", {})
        if progress.get("total"):
            self.bar.value = min(1.0, progress["done"] / progress["total"])
        if progress.get("eta_s") is not None:
            self.said.value = f"{progress['eta_s']:.0f} s left"
        if event.get("preview"):
            self.painting.show(base64.b64decode(event["preview"].partition(",")[2]))
        self.page.update()

    async def ended(self) -> None:
        job = await self.server.job(self.job)
        if job.state in OPEN or not job.results:
            self.busy(at_work=False)
            self.say(job.error if isinstance(job.error, str) else "it was stopped")
            return
        self.result = await self.server.picture(job.results[0].sha256)
        self.painting.show(self.result)
        self.painting.over.semantics_label = "result"
        self.busy(at_work=False, proposed=True)

    async def stop(self, _: Any) -> None:
        try:
            await self.server.cancel(self.job)
        except RefusedError as error:
            self.say(str(error))

    def decide(self, event: Any) -> None:
        if event.control is self.accept:
            self.painting.take(self.result)
        self.busy(at_work=False)

    async def look(self, _: Any) -> None:
        self.wall.controls = []
        try:
            for picture in await self.server.gallery(self.search.value or ""):
                data = await self.server.picture(picture.sha256, small=True)
                image = ft.Image(data, fit=ft.BoxFit.COVER, semantics_label=picture.prompt)
                tile = ft.Container(image, data=picture.sha256, on_click=self.chosen)
                self.wall.controls.append(tile)
                self.page.update()
        except RefusedError as error:
            self.say(str(error))

    async def chosen(self, event: Any) -> None:
        try:
            self.use(await self.server.picture(event.control.data))
        except RefusedError as error:
            self.say(str(error))
            return
        self.page.navigation_bar.selected_index = 0
        self.paint()


def main(page: ft.Page) -> None:
    """What Flet calls for each session."""
    App(page).start()


if __name__ == "__main__":
    from served import serve

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=8550)
    ft.run(main) if os.environ.get("FLET_APP") else serve(main, parser.parse_args().port)
