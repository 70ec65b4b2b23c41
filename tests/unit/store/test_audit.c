/* SPDX-License-Identifier: MIT */
/*
 * The audit log: what was told is there, in order, whatever a crash, a failing disk or a second appender
 * does; damage is found and not cut off; refusals do not flood it.
 */
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/store/audit.h"
#include "tests/unit/store/lab.h"

#define LOG "/s/acme/_audit/000001.audit"
#define ENTRIES_MAX 4096u

/* What a reading saw. */
struct seen {
	uint64_t count, last, n[ENTRIES_MAX]; /* n: member "n" of each body */
	unsigned kinds[ENTRIES_MAX];
	bool by;
};

static int note(void *arg, const struct sosie_audit_entry *e)
{
	struct seen *s = arg;
	struct sosie_json *j, *by;
	uint64_t n = 0;
	assert_true(s->count < ENTRIES_MAX);
	assert_int_equal(e->number, s->count + 1);
	assert_int_equal(e->text[e->len], '\0');
	assert_int_equal(sosie_json_parse(e->text, e->len, AUDIT_BODY_MAX, &j, NULL), 0);
	assert_int_equal(sosie_json_obj(j, "by", &by, NULL), 0);
	s->by = sosie_json_has(by, "user") && sosie_json_has(by, "uid");
	if (sosie_json_has(j, "n"))
		assert_int_equal(sosie_json_u64(j, "n", UINT32_MAX, &n, NULL), 0);
	s->n[s->count] = n;
	s->kinds[s->count++] = e->kind;
	s->last = e->number;
	sosie_json_free(j);
	return 0;
}

static int read_log(struct lab *l, const char *tenant, struct seen *s)
{
	memset(s, 0, sizeof(*s));
	return sosie_audit_each(l->store, tenant, note, s, &l->err);
}

static struct sosie_json *body_of(uint64_t n)
{
	struct sosie_json *j = sosie_json_new();
	sosie_json_set_u64(j, "n", n);
	return j;
}

static int append(struct lab *l, const char *tenant, uint64_t n)
{
	sosie_err_clear(&l->err);
	return sosie_audit_append(l->store, tenant, SOSIE_AUDIT_COMMAND, body_of(n), NULL, &l->err);
}

static void start(struct lab *l, unsigned entries)
{
	lab_init(l, 1u << 28, 0, false);
	for (unsigned n = 1; n <= entries; n++)
		OK(l, append(l, "acme", n));
}

/* Another process looks. */
static void again(struct lab *l)
{
	lab_close(l);
	lab_open(l);
}

/* Exactly the bodies 1 … count. */
static void expect(struct lab *l, const char *tenant, uint64_t count)
{
	static struct seen s;
	OK(l, read_log(l, tenant, &s));
	assert_int_equal(s.count, count);
	for (uint64_t i = 0; i < count; i++)
		assert_int_equal(s.n[i], i + 1);
}

static uint64_t size_of(struct lab *l, const char *path)
{
	struct sosie_stat st;
	OK(l, sosie_io_stat(l->io, path, &st, &l->err));
	return st.size;
}

static void write_at(struct lab *l, const char *path, uint64_t at, const void *bytes, size_t len)
{
	struct sosie_file *f;
	OK(l, sosie_io_openat(l->io, path, SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE, 0640, &f, &l->err));
	OK(l, sosie_io_pwrite(l->io, f, bytes, len, at, &l->err));
	OK(l, sosie_io_fsync(l->io, f, &l->err));
	sosie_io_close(l->io, f, NULL);
}

static void flip(struct lab *l, const char *path, uint64_t at)
{
	struct sosie_file *f;
	uint8_t byte;
	size_t got;
	OK(l, sosie_io_openat(l->io, path, SOSIE_READ, 0, &f, &l->err));
	OK(l, sosie_io_pread(l->io, f, &byte, 1, at, &got, &l->err));
	sosie_io_close(l->io, f, NULL);
	byte ^= 1;
	write_at(l, path, at, &byte, 1);
}

/* --- appending and reading
 * -------------------------------------------------------------------------------------- */

static void test_audit_entries_are_read_back_in_order(void **state)
{
	static struct seen s;
	struct lab l;
	uint64_t number = 0;
	(void)state;
	lab_init(&l, 1u << 26, 0, false);
	OK(&l, read_log(&l, "acme", &s)); /* a store of before the log */
	assert_int_equal(s.count, 0);
	for (unsigned n = 1; n <= 5; n++) {
		OK(&l, append(&l, "acme", n));
		OK(&l, append(&l, NULL, n));
		if (n == 3)
			again(&l);
	}
	OK(&l, sosie_audit_append(l.store, "acme", SOSIE_AUDIT_PIN, body_of(6), &number, &l.err));
	assert_int_equal(number, 6);
	again(&l);
	expect(&l, "acme", 6);
	expect(&l, NULL, 5);
	OK(&l, read_log(&l, "acme", &s));
	assert_int_equal(s.kinds[5], SOSIE_AUDIT_PIN);
	assert_true(s.by);
	struct sosie_stat st;
	OK(&l, sosie_io_stat(l.io, "/s/acme/_audit", &st, &l.err));
	assert_int_equal(st.mode & 0777, 0700);
	lab_fini(&l);
}

static int count_name(void *arg, const struct sosie_name *name)
{
	assert_string_equal(name->s, "acme");
	++*(unsigned *)arg;
	return 0;
}

static void test_audit_folders_are_no_tenant_and_no_group(void **state)
{
	struct lab l;
	unsigned tenants = 0, groups = 0;
	(void)state;
	start(&l, 1);
	OK(&l, append(&l, NULL, 1));
	OK(&l, sosie_store_tenants(l.store, count_name, &tenants, &l.err));
	OK(&l, sosie_store_groups(l.store, "acme", count_name, &groups, &l.err));
	assert_int_equal(tenants, 1);
	assert_int_equal(groups, 0);
	assert_int_equal(append(&l, "nobody", 1), -SOSIE_ENOTFOUND);
	assert_int_equal(append(&l, "_audit", 1), -SOSIE_ENAME);
	lab_fini(&l);
}

static void test_audit_entry_that_is_too_long_is_refused(void **state)
{
	struct lab l;
	char *text = calloc(1, AUDIT_BODY_MAX + 1);
	(void)state;
	assert_non_null(text);
	memset(text, 'x', AUDIT_BODY_MAX);
	start(&l, 1);
	struct sosie_json *j = body_of(2);
	sosie_json_set_str(j, "text", text);
	assert_int_equal(sosie_audit_append(l.store, "acme", SOSIE_AUDIT_COMMAND, j, NULL, &l.err),
	                 -SOSIE_ESIZE);
	assert_int_equal(sosie_audit_append(l.store, "acme", SOSIE_AUDIT_COMMAND, NULL, NULL, &l.err),
	                 -SOSIE_ENOMEM);
	OK(&l, append(&l, "acme", 2));
	expect(&l, "acme", 2);
	free(text);
	lab_fini(&l);
}

static void test_audit_kind_of_a_later_release_is_an_entry(void **state)
{
	static struct seen s;
	struct lab l;
	(void)state;
	start(&l, 1);
	OK(&l, sosie_audit_append(l.store, "acme", (enum sosie_audit_kind)999, body_of(2), NULL, &l.err));
	again(&l);
	OK(&l, append(&l, "acme", 3));
	expect(&l, "acme", 3);
	OK(&l, read_log(&l, "acme", &s));
	assert_int_equal(s.kinds[1], 999);
	assert_string_equal(sosie_audit_name((enum sosie_audit_kind)s.kinds[1]), "unknown");
	assert_string_equal(sosie_audit_name(SOSIE_AUDIT_KEY_REVOKE), "key-revoke");
	lab_fini(&l);
}

static void append_large(struct lab *l, uint64_t n, const char *text)
{
	struct sosie_json *j = body_of(n);
	sosie_json_set_str(j, "text", text);
	OK(l, sosie_audit_append(l->store, "acme", SOSIE_AUDIT_COMMAND, j, NULL, &l->err));
}

/* Files of 64 MiB follow on one another; only the newest is read to append, also behind an empty one. */
static void test_audit_log_rotates_and_appends_without_reading_older_files(void **state)
{
	struct lab l;
	uint64_t n = 0;
	char *text = calloc(1, 65001);
	(void)state;
	assert_non_null(text);
	memset(text, 'x', 65000);
	lab_init(&l, 1u << 28, 0, false);
	while (n * 65000 < CHAIN_ROTATE)
		append_large(&l, ++n, text);
	OK(&l, append(&l, "acme", ++n));
	assert_true(sosie_io_exists(l.io, "/s/acme/_audit/000002.audit"));
	again(&l);
	OK(&l, append(&l, "acme", ++n));
	expect(&l, "acme", n);
	again(&l);
	write_at(&l, "/s/acme/_audit/000003.audit", 0, "", 0);
	OK(&l, append(&l, "acme", ++n));
	assert_true(size_of(&l, "/s/acme/_audit/000003.audit") > 0);
	expect(&l, "acme", n);
	flip(&l, LOG, 4); /* the kind of the first entry of all */
	again(&l);
	OK(&l, append(&l, "acme", ++n));
	static struct seen s;
	assert_int_equal(read_log(&l, "acme", &s), -SOSIE_ECORRUPT);
	free(text);
	lab_fini(&l);
}

/* --- torn ends, damage
 * ------------------------------------------------------------------------------------------ */

static int saw_torn(void *arg, const char *name, enum sosie_file_kind kind)
{
	(void)kind;
	*(unsigned *)arg += strncmp(name, "torn-", 5) == 0;
	return 0;
}

static void test_audit_torn_end_is_kept_aside_and_cut_by_the_next_appender(void **state)
{
	(void)state;
	for (int kind = 0; kind < 4; kind++) {
		struct lab l;
		uint8_t tail[700] = "SAUD\1\0";
		unsigned torn = 0;
		start(&l, 3);
		uint64_t size = size_of(&l, LOG);
		if (kind == 1)
			memset(tail, 0, sizeof(tail));
		tail[8] = kind == 2 ? 40 : 0; /* a body that fits, with no digest that does */
		if (kind == 3)                /* a byte of the last entry's body */
			flip(&l, LOG, size - CHAIN_TAIL - 3);
		else
			write_at(&l, LOG, size, tail, sizeof(tail));
		if (kind % 2)
			again(&l);
		expect(&l, "acme", kind == 3 ? 2 : 3); /* a reader passes over it */
		OK(&l, append(&l, "acme", kind == 3 ? 3 : 4));
		OK(&l, sosie_io_list(l.io, "/s/acme/_audit", saw_torn, &torn, &l.err));
		assert_int_equal(torn, 1);
		again(&l);
		expect(&l, "acme", kind == 3 ? 3 : 4);
		lab_fini(&l);
	}
}

static void test_audit_damage_inside_is_found_with_its_place_and_not_cut(void **state)
{
	static struct seen s;
	struct lab l;
	(void)state;
	start(&l, 1);
	uint64_t first = size_of(&l, LOG);
	OK(&l, append(&l, "acme", 2));
	OK(&l, append(&l, "acme", 3));
	uint64_t size = size_of(&l, LOG);
	for (uint64_t at = 0; at < first; at++) {
		flip(&l, LOG, at);
		assert_int_equal(read_log(&l, "acme", &s), -SOSIE_ECORRUPT);
		assert_int_equal(s.count, 0);
		assert_string_equal(l.err.where, LOG);
		assert_non_null(strstr(l.err.what, "offset 0"));
		flip(&l, LOG, at);
	}
	flip(&l, LOG, first + 5);
	again(&l);
	assert_int_equal(append(&l, "acme", 4), 0); /* links and lengths are whole: the end can be found */
	assert_true(size_of(&l, LOG) > size);
	flip(&l, LOG, first);
	again(&l);
	size = size_of(&l, LOG);
	assert_int_equal(append(&l, "acme", 5), -SOSIE_ECORRUPT);
	assert_int_equal(size_of(&l, LOG), size);
	assert_int_equal(read_log(&l, "acme", &s), -SOSIE_ECORRUPT);
	assert_int_equal(s.count, 1);
	lab_fini(&l);
}

struct damages {
	unsigned count;
	char where[STORE_PATH], what[512];
};

static void on_damage(void *arg, const char *where, const char *what)
{
	struct damages *d = arg;
	d->count++;
	snprintf(d->where, sizeof(d->where), "%s", where);
	snprintf(d->what, sizeof(d->what), "%s", what);
}

static void test_verify_counts_audit_entries_and_names_damage(void **state)
{
	struct lab l;
	struct damages d = {0};
	struct sosie_verify v = {.damage = on_damage, .arg = &d};
	(void)state;
	start(&l, 3);
	OK(&l, append(&l, NULL, 1));
	lab_accept(&l);
	struct sosie_group *g = lab_group(&l);
	OK(&l, sosie_group_verify(g, &v, &l.err));
	assert_int_equal(v.audit_entries, 4);
	assert_int_equal(v.damaged, 0);
	flip(&l, LOG, 70);
	flip(&l, "/s/_audit/000001.audit", 70); /* the only entry: a torn end, for who only reads */
	OK(&l, sosie_group_verify(g, &v, &l.err));
	assert_int_equal(v.audit_entries, 0);
	assert_int_equal(v.damaged, 1);
	assert_int_equal(d.count, 1);
	assert_string_equal(d.where, LOG);
	assert_non_null(strstr(d.what, "offset 0"));
	sosie_group_close(g);
	lab_fini(&l);
}

/* --- crashes, failing calls
 * ------------------------------------------------------------------------------------- */

/* The power goes at operation n of an append behind `before` entries. False: it did not go any more. */
static bool cut_at(unsigned before, uint64_t n, enum sosie_fate fate)
{
	static struct seen s;
	struct lab l;
	start(&l, before);
	sosie_disk_cut_after(l.disk, n);
	int rc = append(&l, "acme", before + 1);
	bool fired = sosie_disk_is_cut(l.disk);
	if (!fired)
		sosie_disk_cut_after(l.disk, 0);
	lab_close(&l);
	sosie_disk_restart(l.disk, fate);
	sosie_disk_cut_after(l.disk, UINT64_MAX);
	lab_open(&l);
	OK(&l, read_log(&l, "acme", &s));
	assert_true(s.count >= before + (rc == 0 ? 1 : 0) && s.count <= before + 1);
	OK(&l, append(&l, "acme", s.count + 1));
	expect(&l, "acme", s.count + 1);
	again(&l);
	OK(&l, append(&l, "acme", s.count + 2));
	expect(&l, "acme", s.count + 2);
	lab_fini(&l);
	return fired;
}

static void test_audit_power_cut_anywhere_loses_no_entry_that_was_told(void **state)
{
	uint64_t cuts = 0;
	(void)state;
	for (unsigned before = 0; before < 3; before += 2)
		for (int fate = SOSIE_FATE_KEPT; fate <= SOSIE_FATE_REORDERED; fate++)
			for (uint64_t n = 0; cut_at(before, n, (enum sosie_fate)fate); n++)
				cuts++;
	print_message("rounds: %llu simulated-power-cuts\n", (unsigned long long)cuts);
	assert_true(cuts >= 30);
}

static bool fail_at(unsigned before, uint64_t n, int sys, bool onwards)
{
	static struct seen s;
	struct lab l;
	struct sosie_io *faulty;
	struct sosie_fault_plan plan = {.kind = SOSIE_FAULT_NONE};
	start(&l, before);
	sosie_store_close(l.store);
	OK(&l, sosie_io_fault(l.io, &plan, &faulty, &l.err));
	OK(&l, sosie_store_open(faulty, &l.clock.clock, "/s", &l.store, &l.err));
	plan = (struct sosie_fault_plan){.kind = SOSIE_FAULT_ERROR, .at = n, .sys = sys, .onwards = onwards};
	int rc = append(&l, "acme", before + 1);
	bool fired = plan.fired > 0;
	plan = (struct sosie_fault_plan){.kind = SOSIE_FAULT_NONE};
	OK(&l, read_log(&l, "acme", &s));
	assert_true(s.count >= before + (rc == 0 ? 1 : 0) && s.count <= before + 1);
	OK(&l, append(&l, "acme", s.count + 1));
	expect(&l, "acme", s.count + 1);
	sosie_store_close(l.store);
	sosie_io_free(faulty);
	l.store = NULL;
	lab_fini(&l);
	return fired;
}

static void test_audit_failed_call_anywhere_leaves_a_whole_log(void **state)
{
	uint64_t fired = 0;
	(void)state;
	for (unsigned run = 0; run < 8; run++)
		for (uint64_t n = 0; fail_at(run & 1 ? 2 : 0, n, run & 2 ? 5 : 28, (run & 4) != 0); n++)
			fired++;
	print_message("rounds: %llu injected-faults\n", (unsigned long long)fired);
	assert_true(fired > 60);
}

/* --- several appenders
 * ------------------------------------------------------------------------------------------ */

#define APPENDERS 3u
#define EACH 40u

static int appender(const char *path, unsigned who)
{
	struct lab l;
	memset(&l, 0, sizeof(l));
	if (sosie_io_posix(&l.io, &l.err) ||
	    sosie_store_open(l.io, sosie_clock_real(), path, &l.store, &l.err))
		return 1;
	for (unsigned i = 0; i < EACH; i++)
		if (append(&l, "acme", who * EACH + i + 1)) {
			fprintf(stderr, "appender %u: %s\n", who, l.err.what);
			return 1;
		}
	sosie_store_close(l.store);
	sosie_io_free(l.io);
	return 0;
}

static void test_audit_appenders_at_once_follow_on_one_another(void **state)
{
	static struct seen s;
	char dir[] = "/tmp/sosie-audit-XXXXXX", path[64];
	struct lab l;
	pid_t pids[APPENDERS];
	unsigned next[APPENDERS] = {0};
	(void)state;
	memset(&l, 0, sizeof(l));
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/s", dir);
	OK(&l, sosie_io_posix(&l.io, &l.err));
	OK(&l, sosie_store_init(l.io, sosie_clock_real(), path, &l.err));
	OK(&l, sosie_store_open(l.io, sosie_clock_real(), path, &l.store, &l.err));
	OK(&l, sosie_tenant_add(l.store, "acme", 0, &l.err));
	for (unsigned i = 0; i < APPENDERS; i++)
		if ((pids[i] = fork()) == 0)
			_exit(appender(path, i));
	for (unsigned i = 0; i < APPENDERS; i++) {
		int status = -1;
		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	OK(&l, read_log(&l, "acme", &s));
	assert_int_equal(s.count, APPENDERS * EACH);
	for (uint64_t i = 0; i < s.count; i++) { /* of each appender all, in its order */
		unsigned who = (unsigned)((s.n[i] - 1) / EACH);
		assert_int_equal(s.n[i], who * EACH + ++next[who]);
	}
	sosie_io_remove_tree(l.io, dir, NULL);
	sosie_store_close(l.store);
	sosie_io_free(l.io);
}

static void test_audit_lock_that_is_held_is_waited_for_and_then_told(void **state)
{
	struct lab l;
	struct sosie_io *other;
	struct sosie_file *f;
	(void)state;
	start(&l, 1);
	OK(&l, sosie_io_sim(l.disk, &other, &l.err));
	OK(&l, sosie_io_openat(other, "/s/acme/_audit/lock", SOSIE_READ | SOSIE_WRITE, 0, &f, &l.err));
	OK(&l, sosie_io_lock(other, f, true, &l.err));
	int64_t before = l.clock.now_ms;
	assert_int_equal(append(&l, "acme", 2), -SOSIE_EBUSY);
	assert_true(l.clock.now_ms - before >= AUDIT_WAIT_MS);
	sosie_io_close(other, f, NULL);
	sosie_io_free(other);
	OK(&l, append(&l, "acme", 2));
	expect(&l, "acme", 2);
	lab_fini(&l);
}

/* --- refusals
 * --------------------------------------------------------------------------------------------------- */

struct refusals {
	uint64_t entries, sum;
	const char *group; /* NULL: all */
};

static int note_refusal(void *arg, const struct sosie_audit_entry *e)
{
	struct refusals *r = arg;
	struct sosie_json *j;
	const char *group;
	uint64_t count;
	if (e->kind != SOSIE_AUDIT_REFUSE)
		return 0;
	assert_int_equal(sosie_json_parse(e->text, e->len, AUDIT_BODY_MAX, &j, NULL), 0);
	assert_int_equal(sosie_json_u64(j, "count", 1000, &count, NULL), 0);
	assert_int_equal(sosie_json_str(j, "group", 64, &group, NULL), 0);
	if (!r->group || strcmp(r->group, group) == 0) {
		r->entries++;
		r->sum += count;
	}
	sosie_json_free(j);
	return 0;
}

static struct refusals refusals_of(struct lab *l, const char *group)
{
	struct refusals r = {.group = group};
	OK(l, sosie_audit_each(l->store, "acme", note_refusal, &r, &l->err));
	return r;
}

/* An upload on a parent that is not the head. */
static void refused_upload(struct lab *l, const char *group)
{
	static const struct change change = {0, 0, 4096, "x"};
	struct sosie_accept_result r;
	struct make_upload u = {.io = l->io,
	                        .clock = &l->clock.clock,
	                        .store = "/s",
	                        .model = &l->model,
	                        .changes = &change,
	                        .change_count = 0,
	                        .fuzzy_parent = true};
	snprintf(l->model.group, sizeof(l->model.group), "%s", group);
	make_upload(&u);
	OK(l, sosie_keeper_accept(l->store, "acme", group, &r, &l->err));
	assert_int_equal(r.refused, 1);
	l->clock.now_ms += 10;
}

static void refusal_lab(struct lab *l)
{
	lab_init(l, 1u << 26, 0, false);
	model_add(&l->model, "root", 8192);
}

static void test_refusals_are_entries_at_most_one_for_each_group_in_ten_seconds(void **state)
{
	struct lab l;
	(void)state;
	refusal_lab(&l);
	for (unsigned i = 0; i < 50; i++) {
		refused_upload(&l, "erp");
		l.clock.now_ms += 150;
	}
	struct refusals r = refusals_of(&l, NULL);
	assert_int_equal(r.entries, 1);
	assert_int_equal(r.sum, 1);
	OK(&l, sosie_keeper_settle(l.store, "acme", "erp", &l.err)); /* not due yet */
	assert_int_equal(refusals_of(&l, NULL).entries, 1);
	l.clock.now_ms += 2000;
	OK(&l, sosie_keeper_settle(l.store, "acme", "erp", &l.err));
	OK(&l, sosie_keeper_settle(l.store, "acme", "erp", &l.err));
	r = refusals_of(&l, NULL);
	assert_int_equal(r.entries, 2);
	assert_int_equal(r.sum, 50);
	refused_upload(&l, "erp");
	assert_int_equal(refusals_of(&l, NULL).sum, 50);
	again(&l); /* what waits is written when the store is closed */
	r = refusals_of(&l, NULL);
	assert_int_equal(r.entries, 3);
	assert_int_equal(r.sum, 51);
	lab_fini(&l);
}

static void test_refusals_in_many_groups_are_at_most_one_entry_a_second(void **state)
{
	struct lab l;
	char group[16];
	(void)state;
	refusal_lab(&l);
	for (unsigned i = 0; i < 30; i++) {
		snprintf(group, sizeof(group), "g%u", i % 15);
		refused_upload(&l, group);
	}
	assert_int_equal(refusals_of(&l, NULL).entries, 1);
	for (unsigned i = 0; i < 30; i++) {
		l.clock.now_ms += 1000;
		snprintf(group, sizeof(group), "g%u", i % 15);
		OK(&l, sosie_keeper_settle(l.store, "acme", group, &l.err));
	}
	assert_int_equal(refusals_of(&l, NULL).sum, 30);
	assert_int_equal(refusals_of(&l, "g3").sum, 2);
	lab_fini(&l);
}

/* A log that cannot be written keeps no refusal from being told, and loses no count. */
static void test_refusal_with_a_held_log_is_counted_later(void **state)
{
	struct lab l;
	struct sosie_io *other;
	struct sosie_file *f;
	(void)state;
	refusal_lab(&l);
	OK(&l, append(&l, "acme", 1));
	OK(&l, sosie_io_sim(l.disk, &other, &l.err));
	OK(&l, sosie_io_openat(other, "/s/acme/_audit/lock", SOSIE_READ | SOSIE_WRITE, 0, &f, &l.err));
	OK(&l, sosie_io_lock(other, f, true, &l.err));
	int64_t before = l.clock.now_ms;
	refused_upload(&l, "erp");
	assert_true(l.clock.now_ms - before < 1000); /* nor is it waited for */
	sosie_io_close(other, f, NULL);
	sosie_io_free(other);
	assert_int_equal(refusals_of(&l, NULL).entries, 0);
	l.clock.now_ms += 10000;
	OK(&l, sosie_keeper_settle(l.store, "acme", "erp", &l.err));
	assert_int_equal(refusals_of(&l, NULL).sum, 1);
	lab_fini(&l);
}

/* --- the whole history
 * ------------------------------------------------------------------------------------------ */

struct told {
	unsigned count, points;
	int64_t last_ms;
};

static int on_history(void *arg, const struct sosie_history *h)
{
	struct told *t = arg;
	assert_true(h->entry.time_ms >= t->last_ms);
	t->last_ms = h->entry.time_ms;
	t->count++;
	t->points += strcmp(h->kind, "acceptance") == 0;
	assert_true(h->entry.len > 0 && h->entry.text[0] == '{' && h->entry.text[h->entry.len - 1] == '}');
	return 0;
}

static void test_history_has_logs_and_acceptances_in_the_order_of_time(void **state)
{
	static const struct change change = {0, 0, 4096, "y"};
	struct told t = {0};
	struct lab l;
	uint8_t bytes[4096];
	struct change c = change;
	(void)state;
	memset(bytes, 7, sizeof(bytes));
	c.data = bytes;
	lab_init(&l, 1u << 26, 0, false);
	lab_accept(&l);
	model_add(&l.model, "root", 8192);
	OK(&l, append(&l, NULL, 1));
	for (unsigned i = 0; i < 3; i++) {
		lab_point(&l, &c, 1);
		l.clock.now_ms += 1000;
		OK(&l, append(&l, "acme", i + 1));
		l.clock.now_ms += 1000;
	}
	OK(&l, sosie_audit_history(l.store, NULL, 0, on_history, &t, &l.err));
	assert_int_equal(t.count, 7);
	assert_int_equal(t.points, 3);
	t = (struct told){0};
	OK(&l, sosie_audit_history(l.store, "acme", l.clock.now_ms - 1500, on_history, &t, &l.err));
	assert_int_equal(t.count, 1);
	flip(&l, LOG, 4);
	t = (struct told){0};
	assert_int_equal(sosie_audit_history(l.store, NULL, 0, on_history, &t, &l.err), -SOSIE_ECORRUPT);
	assert_int_equal(t.points, 3); /* all else is told */
	assert_int_equal(t.count, 4);
	lab_fini(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_audit_entries_are_read_back_in_order),
	        cmocka_unit_test(test_audit_folders_are_no_tenant_and_no_group),
	        cmocka_unit_test(test_audit_entry_that_is_too_long_is_refused),
	        cmocka_unit_test(test_audit_kind_of_a_later_release_is_an_entry),
	        cmocka_unit_test(test_audit_log_rotates_and_appends_without_reading_older_files),
	        cmocka_unit_test(test_audit_torn_end_is_kept_aside_and_cut_by_the_next_appender),
	        cmocka_unit_test(test_audit_damage_inside_is_found_with_its_place_and_not_cut),
	        cmocka_unit_test(test_verify_counts_audit_entries_and_names_damage),
	        cmocka_unit_test(test_audit_power_cut_anywhere_loses_no_entry_that_was_told),
	        cmocka_unit_test(test_audit_failed_call_anywhere_leaves_a_whole_log),
	        cmocka_unit_test(test_audit_appenders_at_once_follow_on_one_another),
	        cmocka_unit_test(test_audit_lock_that_is_held_is_waited_for_and_then_told),
	        cmocka_unit_test(test_refusals_are_entries_at_most_one_for_each_group_in_ten_seconds),
	        cmocka_unit_test(test_refusals_in_many_groups_are_at_most_one_entry_a_second),
	        cmocka_unit_test(test_refusal_with_a_held_log_is_counted_later),
	        cmocka_unit_test(test_history_has_logs_and_acceptances_in_the_order_of_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
