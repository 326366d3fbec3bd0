// Renders [{template, context}] from standard input in LM Studio's engine; prints the texts as JSON.
import { readFileSync } from "node:fs";
const { Template } = await import(process.argv[2]);
const jobs = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(jobs.map(({ template, context }) => new Template(template).render(context))));
