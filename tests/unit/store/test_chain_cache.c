/* SPDX-License-Identifier: MIT */
/* A group that is opened again reads what was appended since, whoever appended it; what was changed in its
 * chain meanwhile is seen, or all of it is read; verify takes nothing from what an earlier opening read. */
#include "engine/store/chain.h"
#include "sosie/audit.h"
#include "tests/unit/store/lab.h"

#define FILE_1 "/s/acme/erp/chain/000001.chain"
#define FILE_2 "/s/acme/erp/chain/000002.chain"
#define BODY 1600u /* of an entry: about that of a point */
#define ENTRY (CHAIN_HEADER + BODY + CHAIN_TAIL)
#define LITTLE (2 * BODY + 4096ull) /* bytes read where one or two entries are new */

/* --- what is read --------------------------------------------------------------------------------------- */

static struct {
	struct sosie_io_ops ops;
	const struct sosie_io_ops *kept;
	uint64_t bytes;
} counted;

static void counted_submit(struct sosie_io *io, struct sosie_req *req)
{
	struct sosie_stat st;
	if (req->op == SOSIE_OP_READ && !counted.kept->fstat(io, req->file, &st, NULL) &&
	    st.size > req->offset)
		counted.bytes += req->len < st.size - req->offset ? req->len : st.size - req->offset;
	counted.kept->submit(io, req);
}

static void count_reads(struct sosie_io *io)
{
	counted.kept = io->ops;
	counted.ops = *io->ops;
	counted.ops.submit = counted_submit;
	io->ops = &counted.ops;
}

/* Another process with the same store: nothing is shared but the disk. */
struct other {
	struct sosie_io *io;
	struct sosie_store *store;
};

static struct other other_open(struct lab *l)
{
	struct other o;
	OK(l, sosie_io_sim(l->disk, &o.io, &l->err));
	OK(l, sosie_store_open(o.io, &l->clock.clock, "/s", &o.store, &l->err));
	return o;
}

static void other_close(struct other *o)
{
	sosie_store_close(o->store);
	sosie_io_free(o->io);
}

static struct sosie_group *open_in(struct lab *l, struct sosie_store *store, const char *group)
{
	struct sosie_group *g = NULL;
	OK(l, sosie_group_open(store, "acme", group, &g, &l->err));
	return g;
}

/* Entries of `len` bytes, told apart by `mark`. */
static void append(struct lab *l, struct sosie_group *g, unsigned count, uint32_t len, uint8_t mark)
{
	uint8_t *body = malloc(len);
	assert_non_null(body);
	OK(l, sosie_group_lock(g, "test", 0, &l->err));
	for (unsigned i = 0; i < count; i++) {
		memset(body, (int)i, len);
		body[0] = mark;
		OK(l, chain_append(g->chain, CHAIN_KEY, chain_newest_point(g->chain), 1000, body, len, NULL,
		                   &l->err));
	}
	sosie_group_unlock(g);
	free(body);
}

static void append_in(struct lab *l, struct sosie_store *store, const char *group, unsigned count,
                      uint32_t len, uint8_t mark)
{
	struct sosie_group *g = open_in(l, store, group);
	append(l, g, count, len, mark);
	sosie_group_close(g);
}

/* Opens the group, compares what it knows with what another process reads anew, and says how many bytes the
 * opening read. */
static uint64_t opened(struct lab *l, uint64_t entries)
{
	struct other o = other_open(l);
	struct sosie_group *fresh = open_in(l, o.store, "erp");
	const uint64_t before = counted.bytes;
	struct sosie_group *g = open_in(l, l->store, "erp");
	const uint64_t read = counted.bytes - before;
	const struct sosie_chain *a = g->chain, *b = fresh->chain;
	assert_int_equal(chain_entries(a), entries);
	assert_int_equal(chain_entries(b), entries);
	for (uint64_t i = 0; i < entries; i++) {
		assert_true(sosie_digest_equal(&a->entries[i].digest, &b->entries[i].digest));
		assert_true(a->entries[i].file == b->entries[i].file);
		assert_true(a->entries[i].offset == b->entries[i].offset);
	}
	assert_true(sosie_digest_equal(&a->head, &b->head) && sosie_digest_equal(&a->end, &b->end));
	assert_true(a->newest_file == b->newest_file && a->newest_size == b->newest_size);
	assert_true(a->newest_point == b->newest_point && a->epoch == b->epoch);
	sosie_group_close(g);
	sosie_group_close(fresh);
	other_close(&o);
	return read;
}

static uint64_t size_of(struct lab *l, const char *path)
{
	struct sosie_stat st;
	OK(l, sosie_io_stat(l->io, path, &st, &l->err));
	return st.size;
}

static void start(struct lab *l, uint64_t capacity, unsigned entries)
{
	lab_init(l, capacity, 0, false);
	count_reads(l->io);
	OK(l, group_make(l->store, "acme", "erp", &l->err));
	append_in(l, l->store, "erp", entries, BODY, 1);
	assert_true(opened(l, entries) < LITTLE);
}

/* Bytes [at, at + len) of the file anew. */
static void overwrite(struct lab *l, const char *path, uint64_t at, const void *bytes, size_t len)
{
	struct sosie_file *f;
	OK(l, sosie_io_openat(l->io, path, SOSIE_READ | SOSIE_WRITE, 0, &f, &l->err));
	OK(l, sosie_io_pwrite(l->io, f, bytes, len, at, &l->err));
	OK(l, sosie_io_close(l->io, f, &l->err));
}

static void flip(struct lab *l, const char *path, uint64_t at)
{
	struct sosie_file *f;
	uint8_t byte;
	size_t got;
	OK(l, sosie_io_openat(l->io, path, SOSIE_READ, 0, &f, &l->err));
	OK(l, sosie_io_pread(l->io, f, &byte, 1, at, &got, &l->err));
	assert_int_equal(got, 1);
	sosie_io_close(l->io, f, NULL);
	byte ^= 1;
	overwrite(l, path, at, &byte, 1);
}

static void cut(struct lab *l, const char *path, uint64_t size)
{
	struct sosie_file *f;
	OK(l, sosie_io_openat(l->io, path, SOSIE_READ | SOSIE_WRITE, 0, &f, &l->err));
	OK(l, sosie_io_truncate(l->io, f, size, &l->err));
	OK(l, sosie_io_close(l->io, f, &l->err));
}

/* --- tests ---------------------------------------------------------------------------------------------- */

static void test_group_opened_again_reads_the_end_only(void **state)
{
	struct lab l;
	(void)state;
	start(&l, 1u << 24, 200);
	lab_close(&l);
	lab_open(&l);
	count_reads(l.io);
	assert_true(opened(&l, 200) >= 200 * ENTRY); /* once by each process */
	const uint64_t few = opened(&l, 200);
	append_in(&l, l.store, "erp", 1800, BODY, 2);
	assert_int_equal(opened(&l, 2000), few);
	lab_fini(&l);
}

static void test_entries_of_another_process_are_read_on(void **state)
{
	struct lab l;
	struct other o;
	(void)state;
	start(&l, 1u << 24, 100);
	o = other_open(&l);
	append_in(&l, o.store, "erp", 1, BODY, 2);
	assert_true(opened(&l, 101) < LITTLE);
	struct sosie_group *g = open_in(&l, o.store, "erp");
	OK(&l, sosie_group_lock(g, "test", 0, &l.err));
	OK(&l, group_raise_epoch(g, 7, 0, "somebody", "a cutover", &l.err));
	sosie_group_close(g);
	assert_true(opened(&l, 102) < LITTLE); /* the epoch too */
	g = lab_group(&l);
	assert_int_equal(chain_epoch(g->chain), 7);
	sosie_group_close(g);
	other_close(&o);
	lab_fini(&l);
}

static void test_torn_end_is_ignored_and_cut_by_whoever_has_the_lock(void **state)
{
	static const uint8_t half[700] = {'S', 'C', 'H', 'N', 3};
	struct lab l;
	struct other o;
	(void)state;
	start(&l, 1u << 24, 100);
	const uint64_t size = size_of(&l, FILE_1);
	overwrite(&l, FILE_1, size, half, sizeof(half));
	assert_true(opened(&l, 100) < LITTLE);
	assert_int_equal(size_of(&l, FILE_1), size + sizeof(half));
	/* By us, at the place where what we know ends. */
	append_in(&l, l.store, "erp", 1, BODY, 2);
	assert_true(opened(&l, 101) < LITTLE);
	/* By another process. */
	overwrite(&l, FILE_1, size_of(&l, FILE_1), half, sizeof(half));
	assert_true(opened(&l, 101) < LITTLE);
	o = other_open(&l);
	append_in(&l, o.store, "erp", 1, BODY, 3);
	other_close(&o);
	assert_true(opened(&l, 102) < LITTLE);
	lab_fini(&l);
}

static void test_entry_that_another_process_cut_off_is_forgotten(void **state)
{
	struct lab l;
	struct other o;
	(void)state;
	start(&l, 1u << 24, 100);
	const uint64_t size = size_of(&l, FILE_1);
	cut(&l, FILE_1, size - 10); /* torn inside the newest */
	o = other_open(&l);
	append_in(&l, o.store, "erp", 0, BODY, 0);
	other_close(&o);
	assert_int_equal(size_of(&l, FILE_1), size - ENTRY);
	(void)opened(&l, 99);
	assert_true(opened(&l, 99) < LITTLE);
	/* Another one of the same length in its place: only the digest tells. */
	append_in(&l, l.store, "erp", 1, BODY, 2);
	cut(&l, FILE_1, size - ENTRY);
	o = other_open(&l);
	append_in(&l, o.store, "erp", 1, BODY, 3);
	other_close(&o);
	assert_int_equal(size_of(&l, FILE_1), size);
	(void)opened(&l, 100);
	/* Longer than what we know, and not on it. */
	cut(&l, FILE_1, size - ENTRY);
	o = other_open(&l);
	append_in(&l, o.store, "erp", 3, BODY, 4);
	other_close(&o);
	(void)opened(&l, 102);
	lab_fini(&l);
}

static void test_file_that_was_replaced_is_read_whole(void **state)
{
	struct lab l;
	char *bytes;
	size_t len;
	(void)state;
	start(&l, 1u << 24, 100);
	OK(&l, sosie_io_read_file(l.io, FILE_1, 1u << 24, &bytes, &len, &l.err));
	OK(&l, sosie_io_write_file(l.io, FILE_1, bytes, len, 0640, &l.err)); /* the same, a new file */
	assert_true(opened(&l, 100) >= 100 * ENTRY);
	assert_true(opened(&l, 100) < LITTLE);
	flip(&l, FILE_1, 4); /* damage in the known part */
	OK(&l, sosie_io_unlink(l.io, FILE_1, &l.err));
	struct sosie_group *g = lab_group(&l); /* a folder without files is an empty chain */
	assert_int_equal(chain_entries(g->chain), 0);
	sosie_group_close(g);
	free(bytes);
	lab_fini(&l);
}

static void test_damage_in_the_known_part_is_found_by_verify(void **state)
{
	struct lab l;
	struct sosie_group *g;
	struct sosie_verify v = {0};
	(void)state;
	start(&l, 1u << 24, 100);
	flip(&l, FILE_1, 50 * ENTRY - 1); /* the digest of the 50th: no body says it */
	g = lab_group(&l);
	assert_int_equal(chain_entries(g->chain), 100);
	assert_int_equal(sosie_group_verify(g, &v, &l.err), -SOSIE_ECORRUPT);
	assert_non_null(strstr(l.err.what, FILE_1));
	sosie_group_close(g);
	flip(&l, FILE_1, 50 * ENTRY - 1);
	g = lab_group(&l);
	assert_true(chain_carried(g->chain));
	OK(&l, sosie_group_verify(g, &v, &l.err));
	assert_false(chain_carried(g->chain));
	assert_int_equal(v.damaged, 0);
	flip(&l, FILE_1, 50 * ENTRY + CHAIN_HEADER); /* in a body */
	OK(&l, sosie_group_verify(g, &v, &l.err));
	assert_int_equal(v.damaged, 1);
	sosie_group_close(g);
	lab_fini(&l);
}

static void test_chains_that_do_not_fit_are_not_kept(void **state)
{
	const uint64_t room = 150 * sizeof(struct chain_entry);
	struct lab l;
	(void)state;
	start(&l, 1u << 24, 100);
	l.store->chains_limit = room;
	OK(&l, group_make(l.store, "acme", "crm", &l.err));
	append_in(&l, l.store, "crm", 50, BODY, 1);
	assert_true(opened(&l, 100) < LITTLE); /* both fit, exactly */
	append_in(&l, l.store, "crm", 1, BODY, 1);
	assert_true(opened(&l, 100) >= 100 * ENTRY); /* the one that was opened longer ago went */
	assert_true(opened(&l, 100) < LITTLE);
	append_in(&l, l.store, "crm", 99, BODY, 1); /* 150: it takes all there is */
	assert_true(opened(&l, 100) >= 100 * ENTRY);
	append_in(&l, l.store, "crm", 1, BODY, 1); /* 151: too large alone, and nothing goes for it */
	assert_null(chain_cache_take(l.store, "acme", "crm"));
	assert_true(opened(&l, 100) < LITTLE);
	lab_fini(&l);
}

static void test_longer_chain_of_two_handles_is_kept(void **state)
{
	struct lab l;
	(void)state;
	start(&l, 1u << 24, 100);
	for (unsigned turn = 0; turn < 2; turn++) {
		struct sosie_group *a = lab_group(&l);
		uint64_t before = counted.bytes;
		struct sosie_group *b = lab_group(&l);
		assert_true(counted.bytes - before >= 100 * ENTRY); /* the known one is lent out */
		append(&l, a, 50, BODY, 2);
		assert_int_equal(chain_entries(b->chain), 100 + 50 * turn);
		sosie_group_close(turn ? a : b);
		sosie_group_close(turn ? b : a);
		assert_true(opened(&l, 150 + 50 * turn) < LITTLE);
	}
	lab_fini(&l);
}

static void test_chain_in_doubt_is_not_kept(void **state)
{
	struct lab l;
	(void)state;
	start(&l, 1u << 24, 100);
	struct sosie_group *g = lab_group(&l);
	g->chain->broken = true;
	sosie_group_close(g);
	assert_null(chain_cache_take(l.store, "acme", "erp"));
	assert_true(opened(&l, 100) >= 100 * ENTRY);
	lab_fini(&l);
}

static void test_full_files_are_gone_on_behind_and_looked_at(void **state)
{
	const uint32_t large = 2u << 20;
	struct lab l;
	struct other o;
	char *bytes;
	size_t len;
	(void)state;
	start(&l, 1u << 29, 1);
	append_in(&l, l.store, "erp", 31, large - 1, 2);
	assert_true(opened(&l, 32) < LITTLE);
	/* Another process fills the file and begins the next. */
	o = other_open(&l);
	append_in(&l, o.store, "erp", 3, large - 1, 3);
	other_close(&o);
	assert_true(size_of(&l, FILE_1) >= CHAIN_ROTATE && size_of(&l, FILE_2) > 0);
	/* Three bodies are not read but the last; a window of 1 MiB for each header and tail. */
	assert_true(opened(&l, 35) < 12ull << 20);
	assert_true(opened(&l, 35) < LITTLE);
	/* Then we do. */
	append_in(&l, l.store, "erp", 33, large - 1, 4);
	assert_true(opened(&l, 68) < LITTLE);
	OK(&l, sosie_io_read_file(l.io, FILE_2, 1u << 27, &bytes, &len, &l.err));
	OK(&l, sosie_io_write_file(l.io, FILE_2, bytes, len, 0640, &l.err));
	free(bytes);
	assert_true(opened(&l, 68) > 60ull << 20);
	assert_true(opened(&l, 68) < LITTLE);
	cut(&l, FILE_1, size_of(&l, FILE_1) - 1); /* a full file is never shorter */
	struct sosie_group *g;
	assert_int_equal(sosie_group_open(l.store, "acme", "erp", &g, &l.err), -SOSIE_ECORRUPT);
	lab_fini(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_group_opened_again_reads_the_end_only),
	        cmocka_unit_test(test_entries_of_another_process_are_read_on),
	        cmocka_unit_test(test_torn_end_is_ignored_and_cut_by_whoever_has_the_lock),
	        cmocka_unit_test(test_entry_that_another_process_cut_off_is_forgotten),
	        cmocka_unit_test(test_file_that_was_replaced_is_read_whole),
	        cmocka_unit_test(test_damage_in_the_known_part_is_found_by_verify),
	        cmocka_unit_test(test_chains_that_do_not_fit_are_not_kept),
	        cmocka_unit_test(test_longer_chain_of_two_handles_is_kept),
	        cmocka_unit_test(test_chain_in_doubt_is_not_kept),
	        cmocka_unit_test(test_full_files_are_gone_on_behind_and_looked_at),
	};
	return cmocka_run_group_tests_name("chain cache", tests, NULL, NULL);
}
