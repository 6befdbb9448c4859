"""OFF, OBJ and STL files, parsed from their bytes; the materials and images that they name are not opened."""

import numpy as np

from molrl.data.shapes.mesh import MAX_FACES, MAX_VERTICES, Mesh, ShapeError, mesh_from_polygons

STL_HEADER_BYTES, STL_FACE_BYTES = 84, 50


def parse_off(data: bytes) -> Mesh:
    """Parse the Object File Format of Princeton and ModelNet, whose counts may directly follow the word OFF."""
    lines = [line for line in (line.partition("#")[0].strip() for line in decode_text(data).splitlines()) if line]
    head = lines.pop(0) if lines else ""
    for word in ("COFF", "NOFF", "OFF"):
        if head.startswith(word):
            head = head.removeprefix(word).strip()
            break
    else:
        raise ShapeError("no OFF file: it does not begin with OFF")
    counts = parse_integers((head or (lines.pop(0) if lines else "")).split()[:2], "counts")
    if len(counts) < 2 or not 0 < counts[0] <= MAX_VERTICES or not 0 <= counts[1] <= MAX_FACES:
        raise ShapeError(f"got counts {counts}, allowed: up to {MAX_VERTICES} vertices and {MAX_FACES} faces")
    points, faces = counts
    if len(lines) < points + faces:
        raise ShapeError(f"{len(lines)} lines, {points} vertices and {faces} faces were announced")
    vertices = [parse_coordinates(line.split()[:3]) for line in lines[:points]]
    polygons = []
    for line in lines[points : points + faces]:
        words = line.split()
        size = parse_integers(words[:1], "a face")[0]
        if not 0 < size < len(words):
            raise ShapeError(f"a face of {size} corners has {len(words) - 1}")
        polygons.append(parse_integers(words[1 : 1 + size], "a face"))
    return mesh_from_polygons(vertices, polygons)


def parse_obj(data: bytes) -> Mesh:
    """Parse the vertices and faces of Wavefront OBJ; materials, textures, normals and groups are ignored."""
    vertices: list[list[float]] = []
    polygons: list[list[int]] = []
    for line in decode_text(data).splitlines():
        words = line.split()
        if words[:1] == ["v"]:
            vertices.append(parse_coordinates(words[1:4]))
        elif words[:1] == ["f"]:
            corners = parse_integers([word.partition("/")[0] for word in words[1:]], "a face")
            if 0 in corners:
                raise ShapeError("a face names vertex 0, they count from 1")
            polygons.append([corner - 1 if corner > 0 else len(vertices) + corner for corner in corners])
        if len(vertices) > MAX_VERTICES or len(polygons) > MAX_FACES:
            raise ShapeError(f"more than {MAX_VERTICES} vertices or {MAX_FACES} faces")
    if not vertices:
        raise ShapeError("no vertices")
    return mesh_from_polygons(vertices, polygons)


def parse_stl(data: bytes) -> Mesh:
    """Parse STL (stereolithography), binary or ASCII; corners in one place become one vertex."""
    count = int.from_bytes(data[STL_HEADER_BYTES - 4 : STL_HEADER_BYTES], "little")
    if len(data) >= STL_HEADER_BYTES and len(data) == STL_HEADER_BYTES + STL_FACE_BYTES * count:
        if count > MAX_FACES:
            raise ShapeError(f"{count} faces, allowed: at most {MAX_FACES}")
        record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("rest", "<u2")])
        corners = np.frombuffer(data, record, offset=STL_HEADER_BYTES)["corners"].reshape(-1, 3)
    elif data.lstrip()[:5].lower() == b"solid":
        rows = (line.split() for line in decode_text(data).splitlines())
        points = [parse_coordinates(words[1:4]) for words in rows if words[:1] == ["vertex"]]
        corners = np.array(points, dtype=np.float32).reshape(-1, 3)
    else:
        raise ShapeError("no STL file: neither as long as it says nor text that begins with solid")
    if len(corners) % 3 or not len(corners):
        raise ShapeError(f"{len(corners)} corners, need three for each face")
    if not np.isfinite(corners).all():
        raise ShapeError("non-finite coordinates")
    vertices, rows_of = np.unique(corners, axis=0, return_inverse=True)
    return Mesh(vertices.astype(np.float64), rows_of.reshape(-1, 3).astype(np.int64))


def decode_text(data: bytes) -> str:
    """Decode a text file; bytes that are not UTF-8 may occur in names and comments."""
    if b"\0" in data[:4096]:
        raise ShapeError("a binary file (or UTF-16), expected text")
    return data.decode("utf-8", errors="replace")


def parse_coordinates(words: list[str]) -> list[float]:
    """Parse the three coordinates of a point."""
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise ShapeError(f"not a coordinate: {' '.join(words)[:40]!r}") from None
    if len(values) != 3:
        raise ShapeError(f"{len(values)} coordinates, need three for each point")
    return values


def parse_integers(words: list[str], what: str) -> list[int]:
    """Parse whole numbers; `what` names them in the error."""
    try:
        return [int(word[:12]) for word in words]
    except ValueError:
        raise ShapeError(f"{what}: not whole numbers: {' '.join(words)[:40]!r}") from None
