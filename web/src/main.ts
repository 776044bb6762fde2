// The page begins: styles, then the App.
import "./shell/tokens.css";
import "./shell/base.css";
import { mount } from "svelte";
import App from "./App.svelte";
import { keepPage } from "./offline/register";

keepPage();
mount(App, { target: document.body });
