import type { NextConfig } from "next";

const config: NextConfig = { output: "export" }; // plain files: the conversation is between the browser and the desk

export default config;
