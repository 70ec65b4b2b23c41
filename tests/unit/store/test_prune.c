/* SPDX-License-Identifier: MIT */
/*
 * Pruning on the simulated disk: what stays can be made and is what the source held, what went is told as
 * such, verify finds nothing wrong and finds what is. The power goes at every operation of a prune, calls
 * fail; each time what is not recorded as gone is whole, and another run ends where the first would have.
 */
#include "tests/unit/store/lab.h"

#include "engine/cutover/internal.h"
#include "engine/store/policy.h"
#include "engine/store/pruned.h"
#include "sosie/audit.h"
#include "sosie/retention.h"
#include "tests/support/rounds.h"

#define HOUR 3600000ll
#define DAY 86400000ll
#define SERIES 12u

static uint8_t noise[1u << 20];
static const struct change first_changes[] = {{0, 4096, 100000, noise}, {1, 0, 10000, noise + 77}};

/* A point whose content differs from all others'. */
static void next_point(struct lab *l)
{
	const unsigned n = l->point_count;
	const struct change change[] = {{0, 4096u * (n % 20), 4096, noise + 1000 + 777 * n},
	                                {1, 100 * n, 50, noise + n}};
	if (n == 0) {
		lab_accept(l);
		model_add(&l->model, "root", 300000);
		model_add(&l->model, "data", 10000);
		lab_point(l, first_changes, 2);
	} else {
		lab_point_as(l, change, 2, n % 3 == 2 ? MAKE_PATCH : MAKE_DATA, NULL);
	}
}

/* SERIES points, 20 minutes apart: each hour has three. Begins on the hour. */
static void series(struct lab *l, bool reflink)
{
	lab_init(l, 1u << 26, 0, reflink);
	l->clock.now_ms = 1790000000000 / HOUR * HOUR;
	l->clock.boot_at_ms = l->clock.now_ms;
	for (unsigned i = 0; i < SERIES; i++) {
		next_point(l);
		l->clock.now_ms += 20 * 60000 - 10; /* lab_upload adds 10 */
	}
}

/* Six points that change all there is, on a disk without reflink. */
static void copies(struct lab *l)
{
	lab_init(l, 1u << 26, 0, false);
	lab_accept(l);
	model_add(&l->model, "root", 300000);
	model_add(&l->model, "data", 10000);
	for (unsigned i = 0; i < 6; i++) {
		const struct change all[] = {{0, 0, 300000, noise + 4099 * i}, {1, 0, 10000, noise + 99 * i}};
		lab_point(l, all, 2);
	}
}

static void set(struct lab *l, const char *text)
{
	enum sosie_policy_key key;
	uint64_t value;
	bool inherit;
	int64_t from;
	OK(l, sosie_policy_parse(text, &key, &value, &inherit, &l->err));
	OK(l, sosie_policy_set(l->store, "acme", "erp", key, value, inherit, &from, &l->err));
}

/* A policy in force: its changes have waited. */
static void set_and_wait(struct lab *l, const char *text)
{
	set(l, text);
	l->clock.now_ms += 7 * DAY + 1;
}

/* As "sosie prune": steps until it is done. */
static int prune_rc(struct lab *l, struct sosie_prune *sum)
{
	struct sosie_group *g = NULL;
	struct sosie_prune p;
	int rc = sosie_group_open(l->store, "acme", "erp", &g, &l->err);
	memset(sum, 0, sizeof(*sum));
	if (rc)
		return rc;
	do {
		memset(&p, 0, sizeof(p));
		rc = sosie_group_lock(g, "test", 0, &l->err);
		if (!rc)
			rc = sosie_group_prune(g, &p, &l->err);
		sosie_group_unlock(g);
		sum->points += p.points;
		sum->generations += p.generations;
		sum->bytes += p.bytes;
	} while (rc == -SOSIE_EBUSY && p.more);
	sosie_group_close(g);
	return rc;
}

static struct sosie_prune prune(struct lab *l)
{
	struct sosie_prune sum;
	OK(l, prune_rc(l, &sum));
	return sum;
}

static bool is_pruned(struct lab *l, uint64_t point)
{
	struct sosie_group *g = lab_group(l);
	struct pruned gone;
	OK(l, pruned_read(g, &gone, &l->err));
	bool found = pruned_find(&gone, point) != NULL;
	pruned_fini(&gone);
	sosie_group_close(g);
	return found;
}

/* Every point that is not recorded as gone, made anew, is what the source held; the others say that they
 * went. Returns how many are there. */
static unsigned check_kept(struct lab *l)
{
	struct sosie_group *g = lab_group(l);
	struct pruned gone;
	unsigned kept = 0;
	OK(l, pruned_read(g, &gone, &l->err));
	assert_int_equal(sosie_group_points(g), l->point_count);
	for (unsigned p = 1; p <= l->point_count; p++) {
		struct sosie_image *images = NULL;
		unsigned count = 0;
		int rc = sosie_group_export(g, p, "/out", NULL, &images, &count, &l->err);
		free(images);
		if (pruned_find(&gone, p)) {
			assert_int_equal(rc, -SOSIE_ENOTFOUND);
			assert_non_null(strstr(l->err.what, "was pruned at"));
			assert_non_null(strstr(l->err.action, "nearest"));
			continue;
		}
		if (rc)
			fail_msg("point %u: %s", p, l->err.what);
		lab_compare_dir(l, "/out", &l->points[p - 1]);
		OK(l, sosie_io_remove_tree(l->io, "/out", &l->err));
		kept++;
	}
	pruned_fini(&gone);
	sosie_group_close(g);
	return kept;
}

static void say_damage(void *arg, const char *where, const char *what)
{
	(void)arg;
	print_message("damage: %s: %s\n", where, what);
}

static uint64_t damage(struct lab *l)
{
	struct sosie_group *g = lab_group(l);
	struct sosie_verify v = {.full = true, .damage = say_damage};
	OK(l, sosie_group_verify(g, &v, &l->err));
	sosie_group_close(g);
	return v.damaged;
}

/* "1 2 5": the points that are there. */
static const char *kept_list(struct lab *l)
{
	static char text[256];
	struct sosie_group *g = lab_group(l);
	struct sosie_kept *points;
	size_t count, len = 0;
	OK(l, sosie_group_kept(g, &points, &count, &l->err));
	text[0] = '\0';
	for (size_t i = 0; i < count; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%llu", i ? " " : "",
		                        (unsigned long long)points[i].point);
	free(points);
	sosie_group_close(g);
	return text;
}

static void again(struct lab *l)
{
	lab_close(l);
	lab_open(l);
}

static void test_default_policy_keeps_everything(void **state)
{
	struct lab l;
	(void)state;
	series(&l, true);
	l.clock.now_ms += 10000 * DAY / 2000; /* five days */
	assert_int_equal(prune(&l).points, 0);
	assert_int_equal(check_kept(&l), SERIES);
	lab_fini(&l);
}

static void hourly_case(bool reflink)
{
	struct lab l;
	struct sosie_prune p;
	series(&l, reflink);
	set_and_wait(&l, "wish.hourly=3");
	p = prune(&l);
	assert_string_equal(kept_list(&l), reflink ? "6 9 12" : "1 2 3 4 5 6 7 8 9 10 11 12");
	if (reflink) {
		assert_int_equal(p.points, 9);
		assert_int_equal(p.generations, 3);
		assert_false(sosie_io_exists(l.io, "/s/acme/erp/journal/11.seg"));
		assert_true(sosie_io_exists(l.io, "/s/acme/erp/journal/12.seg"));
	}
	assert_int_equal(damage(&l), 0);
	check_kept(&l);
	/* Again: nothing. And on it goes, with a head built anew too. */
	p = prune(&l);
	assert_int_equal(p.points + p.generations, 0);
	OK(&l, sosie_io_remove_tree(l.io, "/s/acme/erp/head", &l.err));
	again(&l);
	next_point(&l);
	lab_compare_dir(&l, "/s/acme/erp/head", &l.model);
	check_kept(&l);
	assert_int_equal(damage(&l), 0);
	lab_fini(&l);
}

static void test_points_that_no_rule_keeps_go_and_the_rest_is_whole(void **state)
{
	(void)state;
	hourly_case(true);
}

/* A generation would be a full copy: the segments weigh less, so the points on the way stay. */
static void test_without_reflink_points_on_the_way_stay_until_a_copy_pays(void **state)
{
	struct lab l;
	(void)state;
	hourly_case(false);
	/* Large segments: now it pays. */
	copies(&l);
	set_and_wait(&l, "wish.hourly=1");
	struct sosie_prune p = prune(&l);
	assert_string_equal(kept_list(&l), "6");
	assert_int_equal(p.points, 5);
	check_kept(&l);
	assert_int_equal(damage(&l), 0);
	lab_fini(&l);
}

static void test_dry_run_changes_nothing_and_tells_the_same(void **state)
{
	struct lab l;
	struct sosie_prune dry = {.dry_run = true};
	(void)state;
	series(&l, true);
	set_and_wait(&l, "floor.hourly=2");
	set_and_wait(&l, "wish.hourly=3");
	struct sosie_group *g = lab_group(&l);
	uint64_t ops = sosie_disk_ops(l.disk);
	OK(&l, sosie_group_prune(g, &dry, &l.err));
	assert_int_equal(sosie_disk_ops(l.disk), ops);
	sosie_group_close(g);
	assert_int_equal(check_kept(&l), SERIES);
	struct sosie_prune p = prune(&l);
	assert_int_equal(dry.points, p.points);
	assert_int_equal(dry.generations, p.generations);
	assert_int_equal(dry.bytes, p.bytes);
	assert_true(p.bytes > 0);
	lab_fini(&l);
}

static void test_pinned_points_stay_and_unpinning_waits(void **state)
{
	struct lab l;
	struct sosie_group *g;
	struct sosie_pin *pins;
	unsigned count;
	int64_t from;
	(void)state;
	series(&l, true);
	set_and_wait(&l, "wish.hourly=1");
	g = lab_group(&l);
	OK(&l, sosie_pin_add(g, 4, "before the upgrade", &l.err));
	OK(&l, sosie_pin_add(g, 5, NULL, &l.err));
	OK(&l, sosie_pin_add(g, 4, "before the upgrade", &l.err));
	OK(&l, sosie_pins(g, &pins, &count, &l.err));
	assert_int_equal(count, 2);
	assert_string_equal(pins[0].reason, "before the upgrade");
	free(pins);
	sosie_group_close(g);
	/* The copy is no truth: the log is. */
	OK(&l, sosie_io_unlink(l.io, "/s/acme/erp/state/pins.json", &l.err));
	prune(&l);
	assert_string_equal(kept_list(&l), "4 5 12");
	assert_true(sosie_io_exists(l.io, "/s/acme/erp/state/pins.json"));
	g = lab_group(&l);
	assert_int_equal(sosie_pin_add(g, 3, NULL, &l.err), -SOSIE_ENOTFOUND);
	assert_int_equal(sosie_pin_remove(g, 12, NULL, &from, &l.err), -SOSIE_ENOTFOUND);
	OK(&l, sosie_pin_remove(g, 4, NULL, &from, &l.err));
	assert_int_equal(from, l.clock.now_ms + 7 * DAY);
	OK(&l, sosie_pin_remove(g, 5, NULL, &from, &l.err));
	OK(&l, sosie_pin_add(g, 5, NULL, &l.err)); /* taken back */
	sosie_group_close(g);
	l.clock.now_ms += 7 * DAY - 1;
	prune(&l);
	assert_string_equal(kept_list(&l), "4 5 12");
	l.clock.now_ms += 1;
	prune(&l);
	assert_string_equal(kept_list(&l), "5 12");
	check_kept(&l);
	assert_int_equal(damage(&l), 0);
	lab_fini(&l);
}

/* A log that was cut, or not read, must not unpin. */
static void test_pin_that_the_log_lost_stops_the_prune(void **state)
{
	struct lab l;
	struct sosie_prune sum;
	(void)state;
	series(&l, true);
	struct sosie_group *g = lab_group(&l);
	OK(&l, sosie_pin_add(g, 4, NULL, &l.err));
	sosie_group_close(g);
	set_and_wait(&l, "wish.hourly=1");
	OK(&l, sosie_io_remove_tree(l.io, "/s/acme/_audit", &l.err));
	again(&l);
	assert_int_equal(prune_rc(&l, &sum), -SOSIE_ECORRUPT);
	assert_non_null(strstr(l.err.what, "pin of point 4"));
	assert_int_equal(check_kept(&l), SERIES);
	/* A copy that makes no sense is another matter. */
	OK(&l, sosie_io_write_file(l.io, "/s/acme/erp/state/pins.json", "{", 1, 0644, &l.err));
	assert_int_equal(prune(&l).points, SERIES - 1);
	lab_fini(&l);
}

static void test_point_of_a_cutover_stays(void **state)
{
	struct lab l;
	struct cutover_record r = {.step = SOSIE_CUTOVER_PLANNED,
	                           .id = "0123456789abcdef",
	                           .point = 7,
	                           .from_epoch = 1,
	                           .to_epoch = 2,
	                           .method = SOSIE_CUTOVER_CLONE};
	(void)state;
	series(&l, true);
	set_and_wait(&l, "wish.hourly=1");
	r.started_ms = l.clock.now_ms;
	struct sosie_group *g = lab_group(&l);
	OK(&l, cutover_record_write(g, &r, &l.err));
	sosie_group_close(g);
	prune(&l);
	assert_string_equal(kept_list(&l), "7 12");
	check_kept(&l);
	g = lab_group(&l);
	struct sosie_cutover *c = calloc(1, sizeof(*c));
	c->point = 8;
	assert_int_equal(sosie_cutover_plan(g, c, &l.err), -SOSIE_ENOTFOUND);
	assert_non_null(strstr(l.err.action, "7 and 12"));
	free(c);
	sosie_group_close(g);
	lab_fini(&l);
}

static void test_verify_finds_what_is_missing_and_not_pruned(void **state)
{
	struct lab l;
	(void)state;
	series(&l, true);
	set_and_wait(&l, "wish.all=7d");
	set_and_wait(&l, "wish.hourly=2");
	prune(&l);
	assert_string_equal(kept_list(&l), "9 12");
	assert_int_equal(damage(&l), 0);
	OK(&l, sosie_io_unlink(l.io, "/s/acme/erp/journal/9.seg", &l.err));
	assert_int_equal(damage(&l), 1);
	OK(&l, sosie_io_remove_tree(l.io, "/s/acme/erp/generations/12", &l.err));
	assert_int_equal(damage(&l), 2);
	/* A record that cannot be read: told, and so is each part that is missing. */
	OK(&l, sosie_io_write_file(l.io, "/s/acme/erp/state/pruned.json", "{", 1, 0644, &l.err));
	assert_true(damage(&l) > 3);
	lab_fini(&l);
}

/* What is about to be the only way to a point is looked at first. */
static void test_damaged_generation_stops_the_prune(void **state)
{
	struct lab l;
	struct sosie_prune sum;
	struct sosie_file *f;
	(void)state;
	series(&l, true);
	struct sosie_group *g = lab_group(&l);
	OK(&l, sosie_group_lock(g, "test", 0, &l.err));
	OK(&l, generation_make_at(g, 9, NULL, NULL, NULL, &l.err));
	sosie_group_close(g);
	set_and_wait(&l, "wish.hourly=2");
	OK(&l, sosie_io_chmod(l.io, "/s/acme/erp/generations/9/root.tree", 0640, &l.err));
	OK(&l, sosie_io_openat(l.io, "/s/acme/erp/generations/9/root.tree", SOSIE_READ | SOSIE_WRITE, 0, &f,
	                       &l.err));
	OK(&l, sosie_io_pwrite(l.io, f, "damage", 6, 4096, &l.err));
	OK(&l, sosie_io_close(l.io, f, &l.err));
	assert_int_equal(prune_rc(&l, &sum), -SOSIE_ECORRUPT);
	assert_int_equal(sum.points, 0);
	assert_false(is_pruned(&l, 8));
	assert_int_equal(check_kept(&l), SERIES);
	lab_fini(&l);
}

struct entries {
	unsigned prunes, policies, clocks;
	bool file_was_there;
};

static int count_entry(void *arg, const struct sosie_audit_entry *e)
{
	struct entries *n = arg;
	n->prunes += e->kind == SOSIE_AUDIT_PRUNE;
	n->policies += e->kind == SOSIE_AUDIT_POLICY;
	n->clocks += e->kind == SOSIE_AUDIT_CLOCK;
	return 0;
}

static struct entries entries_of(struct lab *l, const char *tenant)
{
	struct entries n = {0};
	OK(l, sosie_audit_each(l->store, tenant, count_entry, &n, &l->err));
	return n;
}

static void test_every_change_and_prune_is_in_the_audit_log(void **state)
{
	struct lab l;
	(void)state;
	series(&l, true);
	set_and_wait(&l, "wish.hourly=2");
	assert_int_equal(entries_of(&l, "acme").policies, 1);
	prune(&l);
	assert_int_equal(entries_of(&l, "acme").prunes, 1);
	prune(&l);
	assert_int_equal(entries_of(&l, "acme").prunes, 1);
	lab_fini(&l);
}

/* What is attached lies in the point's own segment, which stays with it. */
static void test_attachments_of_a_kept_point_stay(void **state)
{
	struct lab l;
	struct sosie_image *images;
	char *text;
	size_t len;
	unsigned count;
	(void)state;
	lab_init(&l, 1u << 26, 0, true);
	lab_accept(&l);
	model_add(&l.model, "root", 300000);
	for (unsigned i = 0; i < 3; i++) {
		struct make_upload u = lab_upload(&l, first_changes, 1);
		u.attachment = "<domain/>";
		make_upload(&u);
		assert_int_equal(lab_accept(&l).accepted, 1);
		lab_keep_point(&l);
	}
	set_and_wait(&l, "wish.hourly=1");
	assert_int_equal(prune(&l).points, 2);
	struct sosie_group *g = lab_group(&l);
	OK(&l, sosie_group_export(g, 3, "/out", NULL, &images, &count, &l.err));
	free(images);
	sosie_group_close(g);
	OK(&l, sosie_io_read_file(l.io, "/out/attachments/machine.xml", 100, &text, &len, &l.err));
	assert_string_equal(text, "<domain/>");
	free(text);
	lab_fini(&l);
}

/* --- beside readers, and who waits
 * --------------------------------------------------------------------------------------------- */

/* A prune by another process, the moment somebody opens this name. */
static const struct sosie_io_ops *real_ops;
static struct sosie_io_ops racing_ops;
static struct lab *racing;
static const char *race_name;
static uint64_t race_points;

static int racing_open(struct sosie_io *io, const char *path, unsigned flags, uint32_t mode,
                       struct sosie_file **out, struct sosie_err *err)
{
	if (race_name && strstr(path, race_name)) {
		struct lab other = *racing;
		struct sosie_prune sum;
		race_name = NULL;
		other.io = NULL;
		other.store = NULL;
		lab_open(&other);
		OK(&other, prune_rc(&other, &sum));
		race_points = sum.points;
		lab_close(&other);
	}
	return real_ops->open(io, path, flags, mode, out, err);
}

static void race_at(struct lab *l, const char *name)
{
	real_ops = l->io->ops;
	racing_ops = *real_ops;
	racing_ops.open = racing_open;
	racing = l;
	race_name = name;
	race_points = 0;
	l->io->ops = &racing_ops;
}

static void race_over(struct lab *l)
{
	l->io->ops = real_ops;
	assert_null(race_name);
	assert_int_equal(race_points, SERIES - 3);
}

/* The readers take no lock: what goes under them is told as gone, what stays is found another way. */
static void test_readers_beside_a_prune_see_points_whole_or_pruned(void **state)
{
	static const struct {
		uint64_t point; /* 0: verify */
		const char *at;
		int rc;
	} cases[] = {{6, "generations/3/root.raw", 0},
	             {6, "journal/5.seg", 0},
	             {5, "generations/3/root.raw", -SOSIE_ENOTFOUND},
	             {5, "journal/4.seg", -SOSIE_ENOTFOUND},
	             {0, "journal/5.seg", 0},
	             {0, "generations/3/generation.json", 0},
	             {0, "generations/3/root.tree", 0},
	             {0, "generations/3/root.raw", 0}};
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct lab l;
		struct sosie_image *images = NULL;
		unsigned count;
		series(&l, true);
		struct sosie_group *g = lab_group(&l);
		OK(&l, sosie_group_lock(g, "test", 0, &l.err));
		OK(&l, generation_make_at(g, 3, NULL, NULL, NULL, &l.err));
		sosie_group_unlock(g);
		set_and_wait(&l, "wish.hourly=3");
		race_at(&l, cases[i].at);
		if (cases[i].point == 0) {
			struct sosie_verify v = {.full = true, .damage = say_damage};
			OK(&l, sosie_group_verify(g, &v, &l.err));
			assert_int_equal(v.damaged, 0);
		} else {
			int rc =
			        sosie_group_export(g, cases[i].point, "/race", NULL, &images, &count, &l.err);
			if (rc != cases[i].rc)
				fail_msg("point %llu, at %s: %d %s", (unsigned long long)cases[i].point,
				         cases[i].at, rc, l.err.what);
			if (rc)
				assert_non_null(strstr(l.err.what, "was pruned"));
			else
				lab_compare_dir(&l, "/race", &l.points[cases[i].point - 1]);
			free(images);
		}
		race_over(&l);
		sosie_group_close(g);
		lab_fini(&l);
	}
}

static void test_prune_yields_to_who_waits_and_goes_on_later(void **state)
{
	struct lab l;
	struct sosie_prune p = {0};
	struct sosie_file *want;
	(void)state;
	series(&l, true);
	set_and_wait(&l, "wish.hourly=3");
	OK(&l, sosie_io_openat(l.io, "/s/acme/erp/state/want", SOSIE_READ | SOSIE_WRITE | SOSIE_CREATE, 0640,
	                       &want, &l.err));
	OK(&l, sosie_io_lock(l.io, want, true, &l.err));
	struct sosie_group *g = lab_group(&l);
	OK(&l, sosie_group_lock(g, "test", 0, &l.err));
	assert_int_equal(sosie_group_prune(g, &p, &l.err), -SOSIE_EBUSY);
	assert_true(p.more);
	assert_int_equal(p.points, 0);
	sosie_group_close(g);
	assert_int_equal(check_kept(&l), SERIES);
	sosie_io_close(l.io, want, NULL);
	assert_int_equal(prune(&l).points, SERIES - 3);
	check_kept(&l);
	lab_fini(&l);
}

/* The policy that was read is the one that the record is made by: who changes it waits, or the prune does. */
static void test_prune_waits_while_a_policy_is_changed(void **state)
{
	struct lab l;
	struct sosie_prune p = {0};
	struct sosie_file *lock;
	(void)state;
	series(&l, true);
	set_and_wait(&l, "wish.hourly=3");
	OK(&l, policy_lock(l.store, true, 0, &lock, &l.err));
	struct sosie_group *g = lab_group(&l);
	OK(&l, sosie_group_lock(g, "test", 0, &l.err));
	assert_int_equal(sosie_group_prune(g, &p, &l.err), -SOSIE_EBUSY);
	assert_true(p.more);
	sosie_io_close(l.io, lock, NULL);
	OK(&l, sosie_group_prune(g, &p, &l.err));
	assert_int_equal(p.points, SERIES - 3);
	sosie_group_close(g);
	lab_fini(&l);
}

/* A record that makes no sense stops pruning, and keeps nobody from what is there. */
static void test_damaged_record_of_prunes_stops_pruning_not_export(void **state)
{
	static const char *const texts[] = {
	        "",
	        "{",
	        "[]",
	        "{\"format\":1}",
	        "{\"format\":1,\"ranges\":[{\"first\":0,\"last\":1,\"time\":\"2026-11-22T00:00:00.000Z\","
	        "\"why\":\"policy\"}]}",
	        "{\"format\":1,\"ranges\":[{\"first\":3,\"last\":2,\"time\":\"2026-11-22T00:00:00.000Z\","
	        "\"why\":\"policy\"}]}",
	        "{\"format\":1,\"ranges\":[{\"first\":3,\"last\":3,\"time\":\"soon\",\"why\":\"policy\"}]}",
	        "{\"format\":1,\"ranges\":[{\"first\":3,\"last\":4,\"time\":\"2026-11-22T00:00:00.000Z\","
	        "\"why\":\"policy\"},"
	        "{\"first\":4,\"last\":5,\"time\":\"2026-11-22T00:00:00.000Z\",\"why\":\"policy\"}]}",
	        "{\"format\":1,\"ranges\":[{\"first\":3,\"last\":99999999999999999999,\"time\":\"2026-11-"
	        "22T00:00:00.000Z\",\"why\":\"policy\"}]}"};
	struct lab l;
	struct sosie_prune sum;
	(void)state;
	series(&l, true);
	set_and_wait(&l, "wish.hourly=3");
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		OK(&l, sosie_io_write_file(l.io, "/s/acme/erp/state/pruned.json", texts[i], strlen(texts[i]),
		                           0644, &l.err));
		assert_true(prune_rc(&l, &sum) < 0);
		assert_true(damage(&l) > 0);
		struct sosie_group *g = lab_group(&l);
		struct sosie_image *images;
		unsigned count;
		OK(&l, sosie_group_export(g, 4, "/out", NULL, &images, &count, &l.err));
		free(images);
		lab_compare_dir(&l, "/out", &l.points[3]);
		OK(&l, sosie_io_remove_tree(l.io, "/out", &l.err));
		sosie_group_close(g);
	}
	lab_fini(&l);
}

/* --- power cuts and failing calls
 * ------------------------------------------------------------------------------------------ */

/* With reflink a series of which a pin keeps 2, an hourly rule 6, 9, 12; without, six points of which the
 * pin keeps 2, the way to it 1, and the rule 6. The head is open. */
static void prepare(struct lab *l, bool reflink)
{
	if (reflink)
		series(l, true);
	else
		copies(l);
	struct sosie_group *g = lab_group(l);
	OK(l, sosie_pin_add(g, 2, NULL, &l->err));
	sosie_group_close(g);
	set_and_wait(l, "wish.hourly=3");
	struct sosie_clock_state clock;
	OK(l, sosie_clock_note(l->store, &clock, &l->err));
}

static void finish(struct lab *l, bool reflink)
{
	check_kept(l);
	lab_accept(l); /* an upload whose removal was lost is told once more */
	prune(l);
	assert_string_equal(kept_list(l), reflink ? "2 6 9 12" : "1 2 6");
	assert_int_equal(check_kept(l), reflink ? 4 : 3);
	assert_int_equal(damage(l), 0);
	next_point(l);
	lab_compare_dir(l, "/s/acme/erp/head", &l->model);
	assert_int_equal(sosie_io_exists(l->io, "/s/acme/erp/journal/1.seg"), !reflink);
	assert_false(sosie_io_exists(l->io, "/s/acme/erp/journal/5.seg"));
}

static bool cut_at(bool reflink, uint64_t n, enum sosie_fate fate)
{
	struct lab l;
	struct sosie_prune sum;
	prepare(&l, reflink);
	sosie_disk_cut_after(l.disk, n);
	int rc = prune_rc(&l, &sum);
	bool fired = sosie_disk_is_cut(l.disk);
	if (!fired)
		sosie_disk_cut_after(l.disk, 0);
	lab_close(&l);
	sosie_disk_restart(l.disk, fate);
	sosie_disk_cut_after(l.disk, UINT64_MAX);
	lab_open(&l);
	if (rc == 0 && !fired)
		assert_true(is_pruned(&l, 4));
	finish(&l, reflink);
	lab_fini(&l);
	return fired;
}

static void sweep(bool reflink)
{
	uint64_t stride = test_stride(7, 40), cuts = 0;
	for (int fate = SOSIE_FATE_KEPT; fate <= SOSIE_FATE_REORDERED; fate++)
		for (uint64_t n = (uint64_t)fate % stride; cut_at(reflink, n, (enum sosie_fate)fate);
		     n += stride)
			cuts++;
	print_message("rounds: %llu simulated-power-cuts\n", (unsigned long long)cuts);
	assert_true(cuts >= 8);
}

static void test_power_cut_in_prune_leaves_points_whole_or_recorded(void **state)
{
	(void)state;
	sweep(true);
}

static void test_power_cut_in_prune_that_copies_leaves_points_whole_or_recorded(void **state)
{
	(void)state;
	sweep(false);
}

static bool fail_at(uint64_t n, int sys)
{
	struct lab l;
	struct sosie_io *faulty;
	struct sosie_fault_plan plan = {.kind = SOSIE_FAULT_NONE};
	struct sosie_prune sum;
	prepare(&l, true);
	sosie_store_close(l.store);
	OK(&l, sosie_io_fault(l.io, &plan, &faulty, &l.err));
	OK(&l, sosie_store_open(faulty, &l.clock.clock, "/s", &l.store, &l.err));
	plan = (struct sosie_fault_plan){.kind = SOSIE_FAULT_ERROR, .at = n, .sys = sys};
	prune_rc(&l, &sum);
	bool fired = plan.fired > 0;
	plan = (struct sosie_fault_plan){.kind = SOSIE_FAULT_NONE};
	finish(&l, true);
	sosie_store_close(l.store);
	sosie_io_free(faulty);
	l.store = NULL;
	lab_fini(&l);
	return fired;
}

static void test_failed_call_anywhere_in_prune_loses_nothing(void **state)
{
	static const int errors[] = {5, 28}; /* EIO, ENOSPC */
	uint64_t stride = test_stride(7, 60), fired = 0;
	(void)state;
	for (unsigned e = 0; e < 2; e++)
		for (uint64_t n = e; fail_at(n, errors[e]); n += stride)
			fired++;
	print_message("rounds: %llu injected-faults\n", (unsigned long long)fired);
	assert_true(fired > 20);
}

/* --- a flood, and want of room
 * ------------------------------------------------------------------------------------------------ */

/* What the receivers are told that the inbox may hold. */
static uint64_t limit_told(struct lab *l)
{
	char *text;
	size_t len;
	unsigned long long told = 0;
	OK(l, sosie_io_read_file(l->io, "/s/acme/_outbox/limits", 4096, &text, &len, &l->err));
	const char *at = strstr(text, "upload_bytes=");
	assert_true(at && sscanf(at, "upload_bytes=%llu", &told) == 1);
	free(text);
	return told;
}

static void test_upload_over_quota_waits_until_wishes_made_room(void **state)
{
	struct lab l;
	struct sosie_accept_result r;
	struct sosie_prune p;
	static const struct change big[] = {{0, 0, 300000, noise + 31}};
	(void)state;
	for (int floor = 0; floor < 2; floor++) {
		series(&l, true);
		/* With a floor for all, nothing may go; else the older ones make room. */
		set_and_wait(&l, floor ? "floor.all=1000d" : "floor.hourly=1");
		struct sosie_tenant_info info;
		OK(&l, sosie_tenant_info(l.store, "acme", &info, &l.err));
		OK(&l, tenant_set_quota(l.store, "acme", info.used + 590000, &l.err));
		OK(&l, sosie_keeper_tenant(l.store, "acme", &l.err));
		struct make_upload u = lab_upload(&l, big, 1);
		make_upload(&u);
		if (floor) {
			lab_expect_refused(&l, &u, SOSIE_EQUOTA);
			lab_fini(&l);
			continue;
		}
		r = lab_accept(&l);
		if (r.waiting != 1)
			fail_msg("accepted %u: %s", r.accepted, r.last.what);
		uint64_t told = limit_told(&l);
		OK(&l, sosie_keeper_retain(l.store, "acme", "erp", &p, &l.err));
		assert_true(p.points > 0);
		assert_true(is_pruned(&l, 1));
		assert_true(limit_told(&l) > told + 100000); /* receivers turn uploads away by it */
		r = lab_accept(&l);
		assert_int_equal(r.accepted, 1);
		lab_keep_point(&l);
		check_kept(&l);
		assert_int_equal(damage(&l), 0);
		lab_fini(&l);
	}
}

/* A disk that fills up: what is only wished goes, the oldest first, and points go on coming. */
static void test_full_disk_thins_wishes_and_goes_on(void **state)
{
	struct lab l;
	struct sosie_prune p;
	unsigned waits = 0;
	(void)state;
	lab_init(&l, 5u << 20, 0, true);
	lab_accept(&l);
	model_add(&l.model, "root", 300000);
	lab_point(&l, first_changes, 1);
	set_and_wait(&l, "floor.hourly=2");
	for (unsigned i = 1; i < LAB_POINTS; i++) {
		const struct change all[] = {{0, 0, 300000, noise + 4099 * i}};
		struct make_upload u = lab_upload(&l, all, 1);
		make_upload(&u);
		struct sosie_accept_result r = lab_accept(&l);
		if (r.waiting) {
			waits++;
			OK(&l, sosie_keeper_retain(l.store, "acme", "erp", &p, &l.err));
			assert_true(p.points > 0);
			r = lab_accept(&l);
		}
		if (r.accepted != 1)
			fail_msg("point %u: %s", i + 1, r.last.what);
		lab_keep_point(&l);
	}
	print_message("%u waits; %s\n", waits, kept_list(&l));
	assert_true(waits > 0);
	assert_true(is_pruned(&l, 2));
	assert_false(is_pruned(&l, 1)); /* the floor's other hour */
	check_kept(&l);
	assert_int_equal(damage(&l), 0);
	lab_fini(&l);
}

static void test_keeper_prunes_when_due_and_not_before(void **state)
{
	struct lab l;
	struct sosie_prune p;
	(void)state;
	series(&l, true);
	OK(&l, sosie_keeper_retain(l.store, "acme", "erp", &p, &l.err));
	assert_int_equal(p.points, 0); /* keeps everything */
	set_and_wait(&l, "wish.hourly=2");
	OK(&l, sosie_keeper_retain(l.store, "acme", "erp", &p, &l.err));
	assert_int_equal(p.points, SERIES - 2);
	l.clock.now_ms += 2 * HOUR - l.clock.now_ms % HOUR;
	next_point(&l); /* a new hour: the oldest slot is over */
	OK(&l, sosie_keeper_retain(l.store, "acme", "erp", &p, &l.err));
	assert_true(p.looked);
	assert_int_equal(p.points, 1);
	next_point(&l);
	OK(&l, sosie_keeper_retain(l.store, "acme", "erp", &p, &l.err));
	assert_false(p.looked);
	l.clock.now_ms += 61000;
	OK(&l, sosie_keeper_retain(l.store, "acme", "erp", &p, &l.err));
	assert_int_equal(p.points, 0); /* looked, not due */
	l.clock.now_ms += HOUR;
	OK(&l, sosie_keeper_retain(l.store, "acme", "erp", &p, &l.err));
	assert_int_equal(p.points, 1);
	check_kept(&l);
	lab_fini(&l);
}

static int setup(void **state)
{
	(void)state;
	lab_noise(noise, sizeof(noise));
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	        cmocka_unit_test(test_default_policy_keeps_everything),
	        cmocka_unit_test(test_points_that_no_rule_keeps_go_and_the_rest_is_whole),
	        cmocka_unit_test(test_without_reflink_points_on_the_way_stay_until_a_copy_pays),
	        cmocka_unit_test(test_dry_run_changes_nothing_and_tells_the_same),
	        cmocka_unit_test(test_pinned_points_stay_and_unpinning_waits),
	        cmocka_unit_test(test_pin_that_the_log_lost_stops_the_prune),
	        cmocka_unit_test(test_point_of_a_cutover_stays),
	        cmocka_unit_test(test_attachments_of_a_kept_point_stay),
	        cmocka_unit_test(test_verify_finds_what_is_missing_and_not_pruned),
	        cmocka_unit_test(test_damaged_generation_stops_the_prune),
	        cmocka_unit_test(test_every_change_and_prune_is_in_the_audit_log),
	        cmocka_unit_test(test_readers_beside_a_prune_see_points_whole_or_pruned),
	        cmocka_unit_test(test_prune_yields_to_who_waits_and_goes_on_later),
	        cmocka_unit_test(test_prune_waits_while_a_policy_is_changed),
	        cmocka_unit_test(test_damaged_record_of_prunes_stops_pruning_not_export),
	        cmocka_unit_test(test_upload_over_quota_waits_until_wishes_made_room),
	        cmocka_unit_test(test_full_disk_thins_wishes_and_goes_on),
	        cmocka_unit_test(test_keeper_prunes_when_due_and_not_before),
	        cmocka_unit_test(test_power_cut_in_prune_leaves_points_whole_or_recorded),
	        cmocka_unit_test(test_power_cut_in_prune_that_copies_leaves_points_whole_or_recorded),
	        cmocka_unit_test(test_failed_call_anywhere_in_prune_loses_nothing),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
