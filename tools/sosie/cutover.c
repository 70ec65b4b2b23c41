/* SPDX-License-Identifier: MIT */
/* cutover: shows what would happen, asks, does it, says where the images are. */
#include <stdio.h>
#include <string.h>

#include "sosie/cutover.h"
#include "tools/common/prompt.h"
#include "tools/sosie/command.h"

static void duration(char dst[32], int64_t ms)
{
	sosie_duration_text(dst, 32, (uint64_t)(ms < 1000 ? ms : ms / 1000 * 1000));
}

/* --- what would be done
 * ------------------------------------------------------------------------------------------------ */

static bool has_volume(const struct sosie_manifest *m, const struct sosie_name *name)
{
	for (unsigned i = 0; i < m->volume_count; i++)
		if (strcmp(m->volumes[i].name.s, name->s) == 0)
			return true;
	return false;
}

static void volume_json(struct sosie_json *list, const struct sosie_manifest_volume *volume)
{
	struct sosie_json *obj = sosie_json_push_obj(list);

	sosie_json_set_str(obj, "volume", volume->name.s);
	sosie_json_set_u64(obj, "size", volume->size);
}

/* The volumes of the point (first), and those that the point before it (second) had and it has not. */
static void document_volumes(struct sosie_json *plan, const struct sosie_manifest volumes[2])
{
	struct sosie_json *list = sosie_json_add_arr(plan, "volumes");
	struct sosie_json *gone = sosie_json_add_arr(plan, "volumes_gone");

	for (unsigned i = 0; i < volumes[0].volume_count; i++)
		volume_json(list, &volumes[0].volumes[i]);
	for (unsigned i = 0; i < volumes[1].volume_count; i++)
		if (!has_volume(&volumes[0], &volumes[1].volumes[i].name))
			volume_json(gone, &volumes[1].volumes[i]);
}

static void show_volumes(const struct sosie_manifest volumes[2])
{
	char size[32];

	for (unsigned i = 0; i < volumes[0].volume_count; i++)
		printf("  %-14s %-16s %s\n", i ? "" : "volumes", volumes[0].volumes[i].name.s,
		       sosie_size_text(size, sizeof(size), volumes[0].volumes[i].size));
	for (unsigned i = 0; i < volumes[1].volume_count; i++)
		if (!has_volume(&volumes[0], &volumes[1].volumes[i].name))
			printf("  NOT in it      %-16s the point before had it, this one has not\n",
			       volumes[1].volumes[i].name.s);
}

static void plan_document(struct command *c, const struct sosie_cutover *p,
                          const struct sosie_manifest volumes[2], uint64_t bytes_per_s)
{
	struct sosie_json *plan = sosie_json_add_obj(c->doc, "plan");

	command_point_json(c, sosie_json_add_obj(plan, "point"), &p->chosen);
	document_volumes(plan, volumes);
	sosie_json_set_u64(plan, "newest", p->newest.point);
	sosie_json_set_time(plan, "same_time", p->same_ms);
	sosie_json_set_u64(plan, "points_lost", p->newest.point - p->chosen.point);
	sosie_json_set_i64(plan, "lost_s", p->lost_ms / 1000);
	sosie_json_set_u64(plan, "uploads_committed", p->uploads_committed);
	sosie_json_set_u64(plan, "uploads_open", p->uploads_open);
	sosie_json_set_u64(plan, "from_epoch", p->from_epoch);
	sosie_json_set_u64(plan, "to_epoch", p->to_epoch);
	sosie_json_set_str(plan, "into", p->dir);
	sosie_json_set_str(plan, "method", sosie_cutover_method_name(p->method));
	sosie_json_set_u64(plan, "segments", p->segments);
	sosie_json_set_u64(plan, "bytes", p->bytes);
	if (bytes_per_s)
		sosie_json_set_u64(plan, "estimate_s", p->bytes / bytes_per_s + 1);
	else
		sosie_json_set_null(plan, "estimate_s");
	sosie_json_set_str(plan, "step", sosie_cutover_step_name(p->step));
}

/* What the source said, and whether more than that is gone. */
static void show_since(struct command *c, const struct sosie_cutover *p)
{
	char text[32];

	if (p->same_ms == 0) {
		duration(text, p->age_ms);
		printf("  lost           what the source wrote since the cut, %s ago\n", text);
		return;
	}
	duration(text, command_age_ms(c, p->same_ms));
	printf("  lost           nothing is known to be lost: the source said %s ago that\n"
	       "                 nothing had changed\n",
	       text);
}

static void show_losses(struct command *c, const struct sosie_cutover *p)
{
	char text[32], count[COMMAND_COUNT];

	show_since(c, p);
	if (p->newest.point > p->chosen.point) {
		duration(text, p->lost_ms);
		printf("                 %s, up to %llu, which is %s newer\n",
		       command_count(count, p->newest.point - p->chosen.point, "newer point"),
		       (unsigned long long)p->newest.point, text);
	}
	if (p->uploads_committed)
		printf("                 %s whole but not accepted\n",
		       command_count(count, p->uploads_committed, "upload"));
	if (p->uploads_open)
		printf("                 %s not complete\n", command_count(count, p->uploads_open, "upload"));
}

static void show_method(const struct sosie_cutover *p, uint64_t bytes_per_s)
{
	char size[32], time[32], count[COMMAND_COUNT];

	printf("  images go to   %s\n", p->dir);
	switch (p->method) {
	case SOSIE_CUTOVER_RENAME:
		printf("  by             rename: no copy, whatever the size\n");
		break;
	case SOSIE_CUTOVER_CLONE:
		printf("  by             clone: blocks are shared, no copy\n");
		break;
	case SOSIE_CUTOVER_COPY:
		printf("  by             copy of %s", sosie_size_text(size, sizeof(size), p->bytes));
		if (bytes_per_s)
			printf(", about %s (measured: %s/s)",
			       sosie_duration_text(time, sizeof(time), (p->bytes / bytes_per_s + 1) * 1000),
			       sosie_size_text(size, sizeof(size), bytes_per_s));
		printf("\n");
		break;
	}
	if (p->segments)
		printf("  then           %s of the journal %s applied\n",
		       command_count(count, p->segments, "segment"), p->segments == 1 ? "is" : "are");
}

static void show_plan(struct command *c, const struct sosie_cutover *p,
                      const struct sosie_manifest volumes[2], uint64_t bytes_per_s)
{
	char time[COMMAND_TIME], age[32];

	duration(age, p->age_ms);
	printf("Cutover of %s/%s\n", c->tenant.s, c->name.s);
	printf("  point          %llu%s\n", (unsigned long long)p->chosen.point,
	       p->chosen.point == p->newest.point ? " (the newest)" : "");
	printf("  cut            %s, %s ago\n", command_time(time, p->chosen.cut_ms), age);
	printf("  consistency    %s%s\n", sosie_consistency_name(p->chosen.consistency),
	       p->chosen.consistency == SOSIE_CONSISTENCY_FUZZY
	               ? ": NOT one instant; expect to repair filesystems"
	               : "");
	if (c->alarms)
		command_alarms_show(c->alarms, "  ");
	show_volumes(volumes);
	show_losses(c, p);
	printf("  epoch          %llu -> %llu: senders of epoch %llu are refused from then on\n",
	       (unsigned long long)p->from_epoch, (unsigned long long)p->to_epoch,
	       (unsigned long long)p->from_epoch);
	show_method(p, bytes_per_s);
	if (p->step > SOSIE_CUTOVER_NONE)
		printf("  begun before   this goes on after the step \"%s\"\n",
		       sosie_cutover_step_name(p->step));
}

/* --- consent
 * --------------------------------------------------------------------------------------------------------------
 */

static int ask(struct command *c, struct sosie_err *err)
{
	char question[256], answer[2 * SOSIE_NAME_MAX + 8], full[2 * SOSIE_NAME_MAX + 8];
	bool answered;
	int rc;

	snprintf(full, sizeof(full), "%s/%s", c->tenant.s, c->name.s);
	snprintf(question, sizeof(question), "\nType the group's name, %s, to cut over: ", full);
	rc = prompt_line(question, answer, sizeof(answer), &answered, err);
	if (rc < 0)
		return rc;
	if (answered && (strcmp(answer, full) == 0 || strcmp(answer, c->name.s) == 0))
		return 0;
	sosie_err_set(err, SOSIE_ECONSENT, "%s: the name was not typed: nothing has been changed", full);
	return sosie_err_action(err, "run the same command again when you are sure");
}

/* Once the epoch is raised the decision was made: the same command finishes without a question. */
static int consent(struct command *c, const struct sosie_cutover *p, struct sosie_err *err)
{
	if (p->step >= SOSIE_CUTOVER_FENCED || options_has(&c->options, "yes"))
		return 0;
	if (!c->json && prompt_possible())
		return ask(c, err);
	sosie_err_set(
	        err, SOSIE_ECONSENT,
	        "%s/%s: a cutover needs your consent, and nobody can be asked here: nothing has been changed",
	        c->tenant.s, c->name.s);
	return sosie_err_action(err, "read the plan, then run the same command with --yes");
}

/* --- the result
 * ---------------------------------------------------------------------------------------------------------------
 */

static int show_result(struct command *c, const struct sosie_cutover *p, struct sosie_err *err)
{
	char time[32];

	sosie_json_set_bool(c->doc, "already_done", p->already_done);
	sosie_json_set_str(c->doc, "step", sosie_cutover_step_name(p->step));
	sosie_json_set_u64(c->doc, "epoch", p->to_epoch);
	if (p->already_done)
		sosie_json_set_null(c->doc, "rto_ms");
	else
		sosie_json_set_i64(c->doc, "rto_ms", p->elapsed_ms);
	if (!c->json && p->already_done)
		printf("%s/%s was cut over to point %llu already (epoch %llu); nothing had to be done:\n",
		       c->tenant.s, c->name.s, (unsigned long long)p->chosen.point,
		       (unsigned long long)p->to_epoch);
	else if (!c->json)
		printf("%s/%s is cut over to point %llu (epoch %llu), RTO %s. The images are yours, "
		       "writable:\n",
		       c->tenant.s, c->name.s, (unsigned long long)p->chosen.point,
		       (unsigned long long)p->to_epoch,
		       sosie_duration_text(time, sizeof(time), (uint64_t)p->elapsed_ms));
	return command_images(c, p->images, p->image_count, options_has(&c->options, "digest"), err);
}

/* What the same command will do when this one was stopped at some step. */
static void say_what_is_next(struct command *c, const struct sosie_cutover *p)
{
	if (p->step >= SOSIE_CUTOVER_FENCED)
		snprintf(c->interrupted, sizeof(c->interrupted),
		         "the epoch is raised; the same command puts the images into place");
	else
		snprintf(c->interrupted, sizeof(c->interrupted),
		         "nothing has changed for the sender; the same command goes on");
}

/* Plan, as document and for people. */
static int tell_plan(struct command *c, const struct sosie_cutover *p, struct sosie_err *err)
{
	static struct sosie_manifest volumes[2];
	uint64_t bytes_per_s = 0;
	int rc = sosie_group_manifest(c->group, p->chosen.point, &volumes[0], err);

	if (rc < 0)
		return rc;
	if (p->chosen.point > 1 && sosie_group_manifest(c->group, p->chosen.point - 1, &volumes[1], NULL) < 0)
		memset(&volumes[1], 0, sizeof(volumes[1])); /* only told: it is not needed */
	if (p->method == SOSIE_CUTOVER_COPY && p->step < SOSIE_CUTOVER_FENCED)
		(void)sosie_cutover_speed(c->group, p, &bytes_per_s,
		                          NULL); /* only an estimate: what is wrong there is told below */
	plan_document(c, p, volumes, bytes_per_s);
	if (!c->json && p->step != SOSIE_CUTOVER_DONE)
		show_plan(c, p, volumes, bytes_per_s);
	sosie_manifest_fini(&volumes[0]);
	sosie_manifest_fini(&volumes[1]);
	return 0;
}

/* Into the tenant's audit log. A log that cannot be written holds up no cutover. */
static void audit(struct command *c, const struct sosie_cutover *p, const char *step,
                  const struct sosie_err *why)
{
	struct sosie_json *body = sosie_json_new();

	sosie_json_set_str(body, "step", step);
	sosie_json_set_str(body, "group", c->name.s);
	sosie_json_set_u64(body, "point", p->chosen.point);
	sosie_json_set_u64(body, "newest", p->newest.point);
	sosie_json_set_u64(body, "from_epoch", p->from_epoch);
	sosie_json_set_u64(body, "epoch", p->to_epoch);
	sosie_json_set_str(body, "into", p->dir);
	sosie_json_set_str(body, "method", sosie_cutover_method_name(p->method));
	sosie_json_set_str(body, "reached", sosie_cutover_step_name(p->step));
	if (why) {
		sosie_json_set_str(body, "code", sosie_code_name(why->code));
		sosie_json_set_str(body, "what", why->what);
	}
	command_audit_try(c, c->tenant.s, SOSIE_AUDIT_CUTOVER, body);
}

static int run(struct command *c, struct sosie_cutover *p, struct sosie_err *err)
{
	const bool done = p->step == SOSIE_CUTOVER_DONE;
	int rc = tell_plan(c, p, err);

	if (rc == 0 && (rc = consent(c, p, err)) < 0)
		audit(c, p, "refused", err);
	if (rc < 0)
		return rc;
	if (!c->json && !done)
		fflush(stdout);
	if (!done)
		audit(c, p, "begin", NULL);
	rc = sosie_cutover_run(c->group, p, &c->progress.report, err);
	progress_clear(&c->progress);
	say_what_is_next(c, p);
	if (!done)
		audit(c, p, rc == 0 ? "done" : "failed", rc == 0 ? NULL : err);
	return rc == 0 ? show_result(c, p, err) : rc;
}

int verb_cutover(struct command *c, struct sosie_err *err)
{
	static struct sosie_cutover p;
	int rc = command_point(c, &p.point, err);

	if (rc == 0)
		rc = command_into(c, p.into, err);
	if (rc == 0)
		rc = command_open_group(c, err);
	if (rc == 0)
		rc = sosie_cutover_plan(c->group, &p, err);
	if (rc < 0)
		return rc;
	rc = run(c, &p, err);
	sosie_cutover_end(c->group, &p);
	return rc;
}
