/* SPDX-License-Identifier: MIT */
/*
 * Acceptance over children that go wrong: the upload is refused or waits, whosever fault it is, and the
 * keeper takes the next one.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/store/lab.h"

#define MIB (1u << 20)
#define MS INT64_C(1000000)

static uint8_t noise[2 * MIB];

static struct confined_kind kind_of(void (*run)(int, void *))
{
	struct confined_kind kind = confined_kind;
	kind.child.run = run;
	kind.child.wall_ns = 60 * MS;
	return kind;
}

/* Manifests are read as they should be; what comes then is another's doing. */
static void serve_manifests(int socket, void *area, void (*else_do)(int, struct sosie_child_message *))
{
	struct sosie_child_message m = {0};
	while (write(socket, &m, sizeof(m)) == (ssize_t)sizeof(m) &&
	       read(socket, &m, sizeof(m)) == (ssize_t)sizeof(m)) {
		struct confined_area *shared = area;
		struct sosie_manifest manifest;
		if (m.word[CONFINED_WORD_OP] != CONFINED_MANIFEST) {
			else_do(socket, &m);
			continue;
		}
		int rc = manifest_get(shared->in, m.word[CONFINED_WORD_LEN], &manifest, NULL);
		if (!rc)
			manifest_summarise(&manifest, &shared->out.manifest);
		m.word[CONFINED_WORD_CODE] = (uint32_t)-rc;
	}
}

static void die(int socket, struct sosie_child_message *m)
{
	(void)socket;
	(void)m;
	abort();
}

static void hang(int socket, struct sosie_child_message *m)
{
	while (read(socket, m, sizeof(*m)) == (ssize_t)sizeof(*m))
		;
}

/* "Done", with nothing in the area. */
static void lie(int socket, struct sosie_child_message *m)
{
	(void)socket;
	m->word[CONFINED_WORD_CODE] = 0;
}

static void run_die(int socket, void *area)
{
	serve_manifests(socket, area, die);
}

static void run_hang(int socket, void *area)
{
	serve_manifests(socket, area, hang);
}

static void run_lie(int socket, void *area)
{
	serve_manifests(socket, area, lie);
}

static void run_die_at_manifest(int socket, void *area)
{
	struct sosie_child_message m = {0};
	(void)area;
	if (write(socket, &m, sizeof(m)) == (ssize_t)sizeof(m) && read(socket, &m, sizeof(m)) > 0)
		abort();
}

/* A manifest that says another thing than the text: more content than the quota allows would pass. */
static void run_lie_about_manifest(int socket, void *shared)
{
	struct confined_area *area = shared;
	struct sosie_child_message m = {0};
	while (write(socket, &m, sizeof(m)) == (ssize_t)sizeof(m) &&
	       read(socket, &m, sizeof(m)) == (ssize_t)sizeof(m)) {
		struct sosie_manifest manifest;
		if (manifest_get(area->in, m.word[CONFINED_WORD_LEN], &manifest, NULL) == 0)
			manifest_summarise(&manifest, &area->out.manifest);
		area->out.manifest.zero++;
		m.word[CONFINED_WORD_CODE] = 0;
	}
}

static void run_nothing(int socket, void *area)
{
	(void)socket;
	(void)area;
}

static struct confined_home *swap_home(struct lab *l, struct confined_home *home)
{
	struct confined_home *before = l->store->home;
	l->store->home = home;
	return before;
}

static void start(struct lab *l)
{
	const struct change c[] = {{0, 0, MIB, noise}};
	lab_init(l, 1u << 28, 0, true);
	lab_accept(l);
	model_add(&l->model, "root", 2 * MIB);
	lab_point(l, c, 1);
}

static void test_upload_whose_children_go_wrong_is_refused_and_the_next_is_taken(void **state)
{
	void (*const runs[])(int, void *) = {run_die, run_hang, run_lie, run_die_at_manifest,
	                                     run_lie_about_manifest};
	static uint8_t runs_of[MIB]; /* packs well: such records go to the child */
	unsigned refused = 0;
	struct lab l;
	(void)state;
	start(&l);
	for (unsigned i = 0; i < sizeof(runs) / sizeof(*runs); i++) {
		const struct confined_kind kind = kind_of(runs[i]);
		const struct change c[] = {{0, MIB / 2, MIB, runs_of}};
		struct confined_home *wrong;
		struct model kept;
		memset(runs_of, 'a' + (int)i, sizeof(runs_of));
		OK(&l, confined_home_new(&kind, &wrong, &l.err));
		struct confined_home *good = swap_home(&l, wrong);
		model_copy(&kept, &l.model);
		struct make_upload u = lab_upload(&l, c, 1);
		make_upload(&u);
		lab_expect_refused(&l, &u, SOSIE_ECORRUPT);
		refused++;
		model_fini(&l.model);
		l.model = kept;
		swap_home(&l, good);
		confined_home_free(wrong);
		lab_point(&l, c, 1);
	}
	assert_int_equal(refused, 5);
	lab_check_points(&l);
	lab_compare_dir(&l, "/s/acme/erp/head", &l.model);
	lab_fini(&l);
}

/* No memory, no process: nobody's upload is refused for that. */
static void test_upload_without_children_waits_for_them(void **state)
{
	const struct confined_kind kind = kind_of(run_nothing);
	const struct change c[] = {{0, MIB / 2, MIB, noise + 1000}};
	struct confined_home *none;
	struct sosie_accept_result r;
	struct lab l;
	(void)state;
	start(&l);
	OK(&l, confined_home_new(&kind, &none, &l.err));
	struct confined_home *good = swap_home(&l, none);
	struct make_upload u = lab_upload(&l, c, 1);
	make_upload(&u);
	assert_int_equal(sosie_keeper_accept(l.store, "acme", "erp", &r, &l.err), -SOSIE_ENOMEM);
	assert_int_equal(r.accepted + r.refused, 0);
	swap_home(&l, good);
	confined_home_free(none);
	r = lab_accept(&l);
	assert_int_equal(r.accepted, 1);
	lab_keep_point(&l);
	lab_check_points(&l);
	lab_fini(&l);
}

/* Bytes that our writer would not make are not in the chain: it is read without a child. */
static void test_upload_with_a_manifest_written_otherwise_is_refused(void **state)
{
	const struct change c[] = {{0, MIB / 2, 4096, noise + 2000}};
	struct model kept;
	struct lab l;
	(void)state;
	start(&l);
	model_copy(&kept, &l.model);
	struct make_upload u = lab_upload(&l, c, 1);
	u.pad_manifest = 1;
	make_upload(&u);
	lab_expect_refused(&l, &u, SOSIE_ECORRUPT);
	model_fini(&l.model);
	l.model = kept;
	lab_point(&l, c, 1);
	lab_check_points(&l);
	lab_fini(&l);
}

/* A point each second costs no start each second. */
static void test_points_of_one_tenant_share_a_child(void **state)
{
	static uint8_t page[4096];
	struct sosie_err err;
	struct confined *c;
	struct lab l;
	pid_t child;
	(void)state;
	start(&l);
	OK(&l, confined_get(l.store->home, "acme", &c, &err));
	child = confined_pid(c);
	const uint64_t started = confined_started(c);
	assert_true(child > 0);
	confined_put(l.store->home, c, sosie_mono_ms(&l.clock.clock));
	for (unsigned i = 0; i < 10; i++) {
		const struct change changes[] = {{0, 4096u * i, 4096, page}};
		memset(page, 'a' + (int)i, sizeof(page));
		lab_point(&l, changes, 1);
	}
	OK(&l, confined_get(l.store->home, "acme", &c, &err));
	assert_int_equal(confined_pid(c), child);
	assert_int_equal(confined_started(c), started);
	confined_put(l.store->home, c, sosie_mono_ms(&l.clock.clock));
	lab_fini(&l);
}

static void test_children_that_nobody_needs_for_a_minute_are_ended(void **state)
{
	struct confined_home *own;
	struct lab l;
	(void)state;
	lab_init(&l, 1u << 28, 0, true);
	OK(&l, confined_home_new(&confined_kind, &own, &l.err));
	struct confined_home *good = swap_home(&l, own);
	const struct change c[] = {{0, 0, MIB, noise}};
	lab_accept(&l);
	model_add(&l.model, "root", 2 * MIB);
	lab_point(&l, c, 1);
	assert_int_equal(confined_home_idle(own), 1);
	OK(&l, sosie_keeper_settle(l.store, "acme", "erp", &l.err));
	assert_int_equal(confined_home_idle(own), 1);
	l.clock.now_ms += CONFINED_REST_MS + 1;
	OK(&l, sosie_keeper_settle(l.store, "acme", "erp", &l.err));
	assert_int_equal(confined_home_idle(own), 0);
	swap_home(&l, good);
	confined_home_free(own);
	lab_fini(&l);
}

static int setup(void **state)
{
	(void)state;
	srand(SEED);
	for (size_t i = 0; i < sizeof(noise); i++)
		noise[i] = (uint8_t)(rand() >> 7);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_upload_whose_children_go_wrong_is_refused_and_the_next_is_taken),
	        cmocka_unit_test(test_upload_without_children_waits_for_them),
	        cmocka_unit_test(test_upload_with_a_manifest_written_otherwise_is_refused),
	        cmocka_unit_test(test_points_of_one_tenant_share_a_child),
	        cmocka_unit_test(test_children_that_nobody_needs_for_a_minute_are_ended),
	};
	printf("seed %u\n", SEED);
	return cmocka_run_group_tests_name("confined accept", tests, setup, NULL);
}
